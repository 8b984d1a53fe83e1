"""What a job has on disk, so that it goes on where it was killed.

FILE.part      the rankings so far; becomes FILE when all are there
FILE.bad.jsonl the rows without a ranking so far
FILE.job.json  how much of both counts, and what the job is; in the end its report

Bytes go to the two files and are synced; then the third, replaced in one step, says that they count. What a
killed process wrote after that is cut off by the next one.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from xuankan.backlog.writers import Writer, as_line
from xuankan.errors import InputError


@dataclass(slots=True)
class JobProgress:
    """How far a job is.

    Attributes:
        rows: rows that are done, of the job's range.
        ranked, bad: of these, with a ranking and without.
        releases: model releases, and how many rankings each made.
        seconds: spent so far.
    """

    rows: int = 0
    ranked: int = 0
    bad: int = 0
    releases: dict[str, int] = field(default_factory=dict[str, int])
    seconds: float = 0.0


class Job:
    """One job's files, which this process alone may write.

    Attributes:
        name: random; the ids of the job's requests begin with it.
        progress: what is on disk and counts.
        state: `running`; `finishing`: all rows are done; `done`: the output is there.
    """

    name: str
    progress: JobProgress
    state: Literal["running", "finishing", "done"]

    def __init__(self, out: Path, plan: Mapping[str, Any], writer: Writer, *, restart: bool = False) -> None:
        """Take up the job that `out` has, or begin one.

        Args:
            out: where the rankings go in the end.
            plan: plain values of what the job does; a job is taken up only if they are the same.
            writer: of the output's format.
            restart: forget what there is.

        Raises:
            InputError: `out` has another job, or none and is there; another process writes it; a file of it
                is missing or cannot be written.
        """
        self._out, self._plan, self._writer = out, json.loads(as_line(plan)), writer
        self._part, self.bad_path, self._state_path = (
            out.with_name(out.name + suffix) for suffix in (".part", ".bad.jsonl", ".job.json")
        )
        self._files: list[BinaryIO] = []
        self._sizes = [0, 0]
        try:
            self._open(restart)
        except OSError as error:
            self.close()
            raise InputError("out", f"{error.filename or out}: {error.strerror or error}") from error
        except InputError:
            self.close()
            raise

    def commit(self, rankings: bytes, bad: bytes, progress: JobProgress) -> None:
        """Add to the files what `progress` counts more than before; on return it is on disk.

        Raises:
            InputError: it cannot be written. Nothing of it counts then, and nothing more may be committed.
        """
        try:
            for place, data in enumerate((rankings, bad)):
                if data:
                    self._files[place].write(data)
                    self._files[place].flush()
                    os.fdatasync(self._files[place].fileno())
                    self._sizes[place] += len(data)
            self.progress = progress
            self._save("running")
        except OSError as error:
            raise self._unwritten(error) from error

    def finish(self) -> None:
        """Make the output, once every row is done.

        Raises:
            InputError: it cannot be written.
        """
        try:
            self._save("finishing")
            self._writer.finish(self._part, self._out)
            if not self.progress.bad:
                self.bad_path.unlink(missing_ok=True)
            self._save("done")
        except OSError as error:
            raise self._unwritten(error) from error

    def rename(self) -> None:
        """Forget the requests in flight: their results cannot be used."""
        self.name = _new_name()
        self._save(self.state)

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            with contextlib.suppress(OSError):  # of what could not be written, which does not count
                file.close()

    def _unwritten(self, error: OSError) -> InputError:
        why = error.strerror or error
        return InputError(
            "out", f"{self._out} cannot be written: {why}; fix that, then run the same command to resume"
        )

    def _open(self, restart: bool) -> None:
        known = None if restart else self._load()
        if known is None and self._out.exists() and not restart:
            raise InputError("out", f"{self._out} exists: name another file, or give --restart to replace it")
        if known is not None and known["state"] != "running" and not self._part.exists():
            self._take(known)
            if not self._out.exists():
                raise InputError(
                    "out", f"{self._out} was complete and is gone: give --restart to make it again"
                )
            self._save("done")
            return
        for path in (self._part, self.bad_path):
            self._files.append(path.open("r+b" if path.exists() else "w+b"))
        try:
            fcntl.flock(self._files[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError("out", f"another process is writing {self._part}") from None
        known = None if restart else self._load()  # again, now that nobody else changes it
        if known is None:
            self.name, self.progress, self.state = _new_name(), JobProgress(), "running"
            self._cut()
            self.commit(self._writer.begin(), b"", self.progress)
        else:
            self._take(known)
            self._cut()

    def _take(self, known: Mapping[str, Any]) -> None:
        if differing := [key for key in self._plan if self._plan[key] != known["plan"].get(key)]:
            key = differing[0]
            was, now = (
                json.dumps(plan.get(key), ensure_ascii=False)[:200] for plan in (known["plan"], self._plan)
            )
            raise InputError(
                "out",
                f"{self._state_path} belongs to another job: {key} was {was} and is now {now}. "
                "Name another file, or give --restart to start over",
            )
        self.name, self.state = known["job"], known["state"]
        self.progress, self._sizes = JobProgress(**known["progress"]), list(known["bytes"])

    def _cut(self) -> None:
        for file, path, size in zip(self._files, (self._part, self.bad_path), self._sizes, strict=True):
            if file.seek(0, os.SEEK_END) < size:
                raise InputError("out", f"{path} is shorter than it was: give --restart to start over")
            file.truncate(size)
            file.seek(size)

    def _load(self) -> Mapping[str, Any] | None:
        try:
            known = json.loads(self._state_path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            known = None
        if (
            not isinstance(known, dict)
            or not {"job", "state", "plan", "progress", "bytes"} <= cast(Any, known).keys()
        ):
            raise InputError(
                "out", f"{self._state_path} is not the state of a job: remove it, or give --restart"
            )
        return cast("Mapping[str, Any]", known)

    def _save(self, state: Literal["running", "finishing", "done"]) -> None:
        self.state = state
        known = {
            "job": self.name,
            "state": state,
            "progress": asdict(self.progress),
            "bytes": self._sizes,
            "plan": self._plan,
        }
        made = self._state_path.with_name(self._state_path.name + ".tmp")
        with made.open("wb") as file:
            file.write(json.dumps(known, ensure_ascii=False, indent=1).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        made.replace(self._state_path)
        directory = os.open(self._state_path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _new_name() -> str:
    return f"rerank-{uuid.uuid4().hex[:16]}"
