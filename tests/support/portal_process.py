"""`xuankan portal` in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import IO

COMMAND = (sys.executable, "-m", "xuankan.cli.main", "portal")


class PortalProcess:
    """A running portal: its process, its address, and what it has logged."""

    def __init__(self, process: subprocess.Popen[str], log: list[str], ready: threading.Event) -> None:
        self.process = process
        self.log = log
        assert ready.wait(60), "".join(log)
        found = re.search(r"listening on (http://[\d.:]+)", "".join(log))
        assert found is not None, "".join(log)
        self.url = found[1]
        self.probes = ""


@contextmanager
def portal_process(*arguments: str, open_files: int | None = None) -> Generator[PortalProcess]:
    """`xuankan portal`, listening and ready; `open_files` is its limit on them."""
    limit = () if open_files is None else ("prlimit", f"--nofile={open_files}:{open_files}")
    process = subprocess.Popen(
        [*limit, *COMMAND, "--port", "0", *arguments], stderr=subprocess.PIPE, text=True
    )
    log: list[str] = []
    ready = threading.Event()

    def read(lines: IO[str]) -> None:
        with lines:
            for line in lines:
                log.append(line)
                if "ready:" in line:
                    ready.set()
        ready.set()

    assert process.stderr is not None
    reader = threading.Thread(target=read, args=(process.stderr,))
    reader.start()
    try:
        yield PortalProcess(process, log, ready)
    finally:
        process.kill()
        process.wait()
        reader.join()
