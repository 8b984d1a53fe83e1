"""Feeds the decoders what nobody should send; each message must be read, or refused with a documented error.

`python -m tests.chaos.fuzz --messages N --seed N`: see `make fuzz`. Half of the messages are valid ones with
some fields changed, removed or exchanged, half are bytes: valid messages cut, spliced and flipped, msgpack of
any depth, and noise.
"""

from __future__ import annotations

import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import click
import msgpack
import numpy as np
from rich.console import Console
from rich.table import Table

from tests.support import vectors
from xuankan.errors import ProtocolError
from xuankan.protocol.wire import Request, Result

SLOWEST_S: Final = 1.0
"""What one message may take at most; other work of the host is in it."""
GROWTH_BYTES: Final = 64 * 1024 * 1024
"""What all messages together may add to the memory of the process."""
_WARM_UP: Final = 2_000
_LONGEST: Final = 600_000

_EXTREMES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**32, 2**53 + 1, 2**63, 2**64 - 1, -(2**63), 0.0, -0.0, 1e308),
    *(float("nan"), float("inf"), float("-inf"), "", "\x00", "é" * 200, "x" * 5_000, b"", b"\x00" * 3),
    *(b"\xff" * 64, b"\x00" * 80_000, [], [[]], [None], {}, {"": None}, {1: 2}, "interactive", "ok"),
    *(msgpack.Timestamp(2**33, 7), msgpack.ExtType(5, b"x"), ["a"] * 40, [b"a"], "a-b_c:d.", "naïve id"),
)


@dataclass(slots=True)
class Fuzzer:
    """Makes messages from a seed."""

    seed: int
    _chance: random.Random = field(init=False)
    _valid: list[tuple[type[Request] | type[Result], bytes]] = field(init=False)
    _bytes_ways: tuple[Callable[[bytes], bytes], ...] = field(init=False)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        known = vectors.build()
        kinds: list[tuple[type[Request] | type[Result], str]] = [(Request, "requests"), (Result, "results")]
        self._valid = [(kind, bytes.fromhex(one["hex"])) for kind, name in kinds for one in known[name]]
        self._bytes_ways = (self._flip, self._cut, self._splice, self._insert, self._nest, self._noise)

    def message(self) -> tuple[type[Request] | type[Result], bytes, str]:
        """A message, who should read it, and how it was made."""
        kind, valid = self._chance.choice(self._valid)
        if self._chance.random() < 0.5:
            return kind, self._change(valid), "fields"
        way = self._chance.choice(self._bytes_ways)
        return kind, way(valid), way.__name__.strip("_")

    def _change(self, valid: bytes) -> bytes:
        message: dict[Any, Any] = msgpack.unpackb(valid)
        for _ in range(self._chance.choice((1, 1, 1, 2, 3))):
            self._change_one(message)
        return msgpack.packb(message)

    def _change_one(self, message: dict[Any, Any]) -> None:
        chance = self._chance
        names: list[Any] = list(message)
        name = chance.choice(names) if names else "v"
        value = message.get(name)
        match chance.randrange(7):
            case 0:
                message.pop(name, None)
            case 1:
                message[name] = chance.choice(_EXTREMES)
            case 2:
                message[name] = message.get(chance.choice(names)) if names else None
            case 3 if isinstance(value, dict) and value:
                self._change_one(value)  # pyright: ignore[reportUnknownArgumentType]
            case 3 if isinstance(value, list) and value and isinstance(value[0], dict):
                self._change_one(chance.choice(value))  # pyright: ignore[reportUnknownArgumentType,reportUnknownVariableType]
            case 4 if isinstance(value, bytes):
                message[name] = self._array(value)
            case 5:
                message[chance.choice((*_EXTREMES[:4], "new", 7, b"k", name))] = chance.choice(_EXTREMES[:30])
            case _:
                message[name] = self._near(value)

    def _near(self, value: Any) -> Any:
        chance = self._chance
        if isinstance(value, bool) or value is None:
            return chance.choice(_EXTREMES)
        if isinstance(value, int):
            near = value + chance.choice((-1, 1, -value, 2**31, -(2**20), 2**53))
            return min(max(near, -(2**63)), 2**64 - 1)
        if isinstance(value, float):
            return value * chance.choice((-1.0, 1e300, 0.0, float("nan")))
        if isinstance(value, str):
            tail = chance.choice(("", "\n", "\x00", " ", "字", "a" * 200))
            return value[: chance.randrange(len(value) + 1)] + tail
        return [value] * chance.randrange(3)

    def _array(self, value: bytes) -> bytes:
        chance = self._chance
        match chance.randrange(5):
            case 0:
                return value[: chance.randrange(len(value) + 1)]
            case 1:
                return (value + value)[:_LONGEST]
            case 2:
                return np.array([np.nan, np.inf, -np.inf, 1e-45], dtype="<f4").tobytes()[: len(value)]
            case 3:
                return value * min(chance.randrange(1, 2_000), 1 + _LONGEST // (1 + len(value)))
            case _:
                return chance.randbytes(len(value))

    def _flip(self, valid: bytes) -> bytes:
        data = bytearray(valid)
        for _ in range(self._chance.choice((1, 1, 2, 8, 64))):
            data[self._chance.randrange(len(data))] = self._chance.randrange(256)
        return bytes(data)

    def _cut(self, valid: bytes) -> bytes:
        return valid[: self._chance.randrange(len(valid))]

    def _splice(self, valid: bytes) -> bytes:
        other = self._chance.choice(self._valid)[1]
        return valid[: self._chance.randrange(len(valid))] + other[self._chance.randrange(len(other)) :]

    def _insert(self, valid: bytes) -> bytes:
        place = self._chance.randrange(len(valid) + 1)
        return valid[:place] + self._chance.randbytes(self._chance.randrange(1, 16)) + valid[place:]

    def _nest(self, valid: bytes) -> bytes:
        # Headers that promise far more than there is, and depth.
        chance = self._chance
        head = chance.choice((b"\xdf", b"\xdd", b"\xc6")) + b"\xff" * 4
        deep = chance.choice((b"\x91", b"\x81\xa1v", b"\xdc\x00\x01")) * chance.randrange(1, 5_000)
        return chance.choice((head, deep, head + valid, deep + valid, valid + deep))

    def _noise(self, valid: bytes) -> bytes:
        del valid
        longest = 300_000 if self._chance.random() < 0.001 else 200
        return self._chance.randbytes(self._chance.randrange(longest))


@dataclass(slots=True)
class FuzzCounts:
    """What became of the messages."""

    outcomes: Counter[str] = field(default_factory=Counter[str])
    ways: Counter[str] = field(default_factory=Counter[str])
    slowest_s: float = 0.0
    grown_bytes: int = 0
    crashes: list[str] = field(default_factory=list[str])


def fuzz(messages: int, seed: int) -> FuzzCounts:
    """Decode so many messages."""
    fuzzer, counts = Fuzzer(seed), FuzzCounts()
    before_bytes = _peak_bytes()
    for number in range(messages):
        kind, data, way = fuzzer.message()
        counts.ways[way] += 1
        started_s = time.perf_counter()
        try:
            found = kind.decode(data)
        except ProtocolError as error:
            place = error.field.split("[")[0].split(".")[0]
            counts.outcomes[f"{kind.__name__} refused: {place if place.isidentifier() else 'other'}"] += 1
            broken = not error.field or len(str(error)) > 2_000
        except Exception as error:  # the very thing that is looked for
            broken = True
            counts.crashes.append(f"message {number} ({way}): {error!r} of {kind.__name__} {data[:80].hex()}")
        else:
            counts.outcomes[f"{kind.__name__} read"] += 1
            broken = not _is_sound(found)
        seconds = time.perf_counter() - started_s
        if broken and len(counts.crashes) < 100:
            counts.crashes.append(f"message {number} ({way}): {kind.__name__} {data[:80].hex()}")
        counts.slowest_s = max(counts.slowest_s, seconds)
        if number == _WARM_UP:
            before_bytes = _peak_bytes()
    counts.grown_bytes = _peak_bytes() - before_bytes
    return counts


def _is_sound(found: Request | Result) -> bool:
    """Whether what was read can be written and read again."""
    data = found.encode()
    return type(found).decode(data).encode() == data


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@click.command()
@click.option("--messages", default=1_000_000, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=1, show_default=True)
def main(messages: int, seed: int) -> None:
    """Decode messages made to do harm; exits 1 if one does."""
    started_s = time.monotonic()
    counts = fuzz(messages, seed)
    table = Table("outcome", "messages", title=f"{messages:,} messages, seed {seed}")
    for outcome, count in sorted(counts.outcomes.items()):
        table.add_row(outcome, f"{count:,}")
    table.add_row("crashed or unsound", f"{len(counts.crashes):,}")
    table.add_row("slowest", f"{counts.slowest_s * 1000:.2f} ms")
    table.add_row("memory", f"+{counts.grown_bytes / 2**20:.1f} MiB")
    table.add_row("wall time", f"{time.monotonic() - started_s:.1f} s")
    console = Console()
    console.print(table)
    for crash in counts.crashes[:20]:
        console.print(f"[red]{crash}", highlight=False)
    sys.exit(bool(counts.crashes) or counts.slowest_s > SLOWEST_S or counts.grown_bytes > GROWTH_BYTES)


if __name__ == "__main__":
    main()
