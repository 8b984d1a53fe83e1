"""What an evaluation has found so far, in a file, so that an interrupted one goes on.

JSON lines: the first says what is evaluated, each other is one paper.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO

from xuankan.errors import InputError


class Placed(NamedTuple):
    """What a release says of one paper.

    Attributes:
        rank: of its own journal, 1 is best; 0 if that is not among the candidates.
        first_stage: the same of the first stage alone.
        score: of the journal on top, of all candidates' 1.
        rows: of the cross-encoder that were run.
        fit: as in `xuankan.protocol.wire.Result`.
    """

    rank: int
    first_stage: int
    score: float
    rows: int
    fit: float | None


class Notebook:
    """Papers that are done, by number; opened by `keep`."""

    def __init__(self, done: dict[int, Placed], file: TextIO | None) -> None:
        self.done, self._file = done, file

    def add(self, number: int, placed: Placed) -> None:
        """Note a paper; it survives the process's end from here on."""
        self.done[number] = placed
        if self._file is not None:
            self._file.write(json.dumps([number, *placed]) + "\n")
            self._file.flush()


@contextmanager
def keep(path: Path | None, about: Mapping[str, str | int]) -> Generator[Notebook]:
    """Open the file of an evaluation, or none.

    Args:
        path: of the file; None keeps nothing.
        about: what is evaluated; a file of anything else is refused.

    Raises:
        InputError: the file is of another evaluation.
    """
    if path is None:
        yield Notebook({}, None)
        return
    # What a process wrote as it was ended may be half a line: it is written anew.
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    lines = [line for line in lines if line.endswith("\n")]
    head = json.dumps(dict(about)) + "\n"
    if lines and lines[0] != head:
        other, this = lines[0].strip()[:200], head.strip()
        raise InputError("keep", f"{path} is of another evaluation, {other}; this is {this}: name a new file")
    done: dict[int, Placed] = {}
    for number, *values in map(json.loads, lines[1:]):
        done[int(number)] = Placed(*values)
    with path.open("w") as file:
        file.write("".join(lines) or head)
        file.flush()
        yield Notebook(done, file)
