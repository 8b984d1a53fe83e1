"""Several producer processes, told what to do together."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from xuankan.errors import XuankanError


@dataclass(frozen=True, slots=True)
class Answer:
    """What producers measured together.

    Attributes:
        each: a list for each of them.
        cpu_s: processor time of all of them.
    """

    each: list[list[float]]
    cpu_s: float

    @property
    def values(self) -> list[float]:
        """Of all of them."""
        return list(itertools.chain.from_iterable(self.each))


class Feeders:
    """Producer processes on one server, open while the block runs; each begins at another manuscript."""

    def __init__(self, url: str, pairs: Path, release: Path, count: int, manuscripts: int) -> None:
        self._arguments = (url, str(pairs), str(release))
        self._first = [manuscripts * at // count for at in range(count)]
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        for first in self._first:
            command = [sys.executable, "-P", "-m", "xuankan_worker.bench.gpu.feed"]
            self._processes.append(
                subprocess.Popen(  # noqa: S603  # our own command
                    [*command, *self._arguments, str(first)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
        for process in self._processes:
            self._read(process)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            if kind is not None:
                process.kill()
            process.communicate()

    def tell(self, commands: Sequence[dict[str, Any]]) -> Answer:
        """Give the first so many producers a command each, and wait for them all.

        Raises:
            XuankanError: a producer failed; it said why on stderr.
        """
        told = list(zip(self._processes, commands, strict=False))
        for process, command in told:
            assert process.stdin is not None
            process.stdin.write(json.dumps(command) + "\n")
            process.stdin.flush()
        answers = [self._read(process) for process, _ in told]
        return Answer([answer["values"] for answer in answers], sum(answer["cpu_s"] for answer in answers))

    def _read(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise XuankanError(f"a producer process of the benchmark ended with status {process.wait()}")
        return json.loads(line)
