"""A look at a shard, drawn for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xuankan.protocol.heartbeat import GpuLoad, WorkerStatus
from xuankan.protocol.keys import LANES
from xuankan_worker.operations.top.history import History, attention

_UNKNOWN: Final = "–"
_BARS: Final = " ▁▂▃▄▅▆▇█"
_SPARK_WIDTH: Final = 40
_FIRST_TO_GO: Final = ("release", "up", "padding", "done", "held", "engine", "busy", "rows waiting")
"""Columns of workers, where the terminal is too narrow for all."""
_STATES: Final = {"running": "green", "starting": "cyan", "draining": "yellow"}


@dataclass(frozen=True, slots=True)
class Frame:
    """What is around the tables.

    Attributes:
        server: its URL without what is secret.
        namespace: the deployment's.
        clock: the time in words.
        away: why the server does not answer and since when; empty while it does.
    """

    server: str
    namespace: str
    clock: str
    away: str = ""


def draw(frame: Frame, history: History | None, width: int = 140, height: int = 1000) -> Group:
    """All of it, in at most `height` lines as far as showing fewer workers makes it so.

    Args:
        frame: what is around it.
        history: None as long as there was no look.
        width: of the terminal.
        height: of the terminal.
    """
    parts: list[RenderableType] = [_heading(frame, history)]
    if frame.away:
        parts.append(Text(f"! {frame.away}", style="bold red"))
    if history is None:
        return Group(*parts)
    notes = [Text(f"! {note}", style="yellow") for note in attention(history.last)]
    parts += [*notes, Text(), _lanes(history), Text()]
    workers = history.last.state.workers or ()
    gpus = [worker for worker in workers if worker.gpu is not None]
    # The heading, the notes, two lanes; a table's head takes two lines, and an empty one stands between.
    used = 1 + bool(frame.away) + len(notes) + 6 + 3 + (min(len(gpus), 8) + 3 if gpus else 0)
    shown = workers[: max(1, height - used)] if len(workers) > height - used else workers
    parts.append(
        Text("this user may not see the workers", style="dim")
        if history.last.state.workers is None
        else _workers(shown, history, width)
    )
    if len(shown) < len(workers):
        parts.append(Text(f"and {len(workers) - len(shown)} workers more", style="dim"))
    if gpus:
        parts += [Text(), _gpus(gpus[:8])]
    return Group(*parts)


def spark(values: Sequence[int], width: int) -> str:
    """The latest values as bars, the highest of them as high as a line."""
    recent = values[-width:]
    top = max(recent, default=0)
    if not top:
        return "▁" * len(recent)
    # Anything that is not nothing is seen.
    return "".join(_BARS[max(1, round(value / top * 8))] for value in recent)


def _heading(frame: Frame, history: History | None) -> Table:
    left = Text.assemble(("xuankan top", "bold"), f"  {frame.server}", (f"  {frame.namespace}", "dim"))
    facts: list[str] = []
    if history is not None:
        look, arrivals = history.last, history.arrivals_per_s()
        if arrivals is not None:
            facts.append(f"requests/s {arrivals:.1f} in, {history.requests_per_s():.1f} out")
        facts.append(_count(len(look.state.workers or ()), "worker"))
        if (memory := look.state.memory) is not None:
            bound = f" of {_bytes(memory.max_bytes)}" if memory.max_bytes else ""
            facts.append(f"memory {_bytes(memory.used_bytes)}{bound}")
    heading = Table.grid(expand=True)
    heading.add_column()
    heading.add_column(justify="right")
    heading.add_row(left, Text("  ".join((*facts, frame.clock)), style="dim"))
    return heading


def _lanes(history: History) -> Table:
    table = _table()
    table.add_column("lane", no_wrap=True)
    for name in ("queued", "running", "wait"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("queued of late", no_wrap=True)
    for lane in LANES:
        seen, wait_s = history.last.state.lanes[lane], history.wait_s(lane)
        table.add_row(
            lane,
            _UNKNOWN if seen.queued is None else f"{seen.queued:,}",
            _UNKNOWN if seen.running is None else f"{seen.running:,}",
            _UNKNOWN if wait_s is None else _duration(wait_s),
            Text(spark(history.backlog(lane), _SPARK_WIDTH), style="cyan"),
        )
    return table


def _workers(workers: Sequence[WorkerStatus], history: History, width: int) -> RenderableType:
    if not workers:
        return Text("no live worker: xuankan worker run", style="dim")
    columns: dict[str, list[Text]] = {}
    for one in workers:
        pace = history.pace(one)
        now_ms = history.last.state.now_ms
        up = _UNKNOWN if now_ms is None else _duration(max(0.0, now_ms - one.started_ms) / 1000)
        for name, value in {
            "worker": Text(one.name),
            "state": Text(one.state, style=_STATES.get(one.state, "")),
            "engine": Text(f"{one.engine} ×{one.contexts}"),
            "release": Text(one.release[:8]),
            "busy": Text(f"{one.busy_contexts}/{one.contexts}"),
            "held": Text(f"{one.in_flight:,}"),
            "rows waiting": Text(f"{one.waiting_rows:,}"),
            "rows/s": Text(f"{one.rows_per_s:,.0f}"),
            "batch": Text(_UNKNOWN if pace.batch_rows is None else f"{pace.batch_rows:.1f}"),
            "padding": Text(_UNKNOWN if pace.padding is None else f"{pace.padding:.1%}"),
            "done": Text(f"{one.requests_done:,}"),
            "up": Text(up),
        }.items():
            columns.setdefault(name, []).append(value)
    for last in _FIRST_TO_GO:
        if sum(max(len(name), *map(len, values)) + 3 for name, values in columns.items()) - 3 <= width:
            break
        del columns[last]
    table = _table()
    for name in columns:
        words = name in ("worker", "state", "engine", "release")
        table.add_column(name, justify="left" if words else "right", no_wrap=True, overflow="ellipsis")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def _gpus(workers: Sequence[WorkerStatus]) -> Table:
    table = _table()
    table.add_column("GPU of", no_wrap=True, overflow="ellipsis")
    table.add_column("kind", no_wrap=True, overflow="ellipsis")
    for name in ("busy", "memory", "power", "temperature"):
        table.add_column(name, justify="right", no_wrap=True)
    for worker in workers:
        gpu = worker.gpu
        assert gpu is not None
        table.add_row(
            Text(worker.name),
            Text(gpu.name),
            _share(gpu),
            f"{_bytes(gpu.used_bytes)} of {_bytes(gpu.memory_bytes)}",
            _UNKNOWN if gpu.watts is None else f"{gpu.watts:.0f} W",
            _UNKNOWN if gpu.celsius is None else f"{gpu.celsius:.0f} °C",
        )
    return table


def _share(gpu: GpuLoad) -> Text:
    if gpu.busy is None:
        return Text(_UNKNOWN)
    return Text.assemble((f"{spark((round(gpu.busy * 8), 8), 2)[0]} ", "cyan"), f"{gpu.busy:.0%}")


def _table() -> Table:
    return Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1), header_style="bold")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s" if 0 < seconds < 10 else f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min {int(seconds % 60):02} s"
    hours = minutes // 60
    return f"{hours} h {minutes % 60:02} min" if hours < 48 else f"{hours // 24} days"
