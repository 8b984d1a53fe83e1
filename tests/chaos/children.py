"""The processes of a run: forked from a server that has loaded everything, so that a restart takes no time.

None outlives the driver: the fork server ends with the driver, and the kernel ends its children with it.
"""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.support.clocks import CLOCK_FILE

_PR_SET_PDEATHSIG = 1


def start(name: str, log: Path, clock: Path | None, target: Callable[..., None], *args: Any) -> BaseProcess:
    """Start a process whose output goes to the end of `log`, with a clock of its own if there is one."""
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.chaos.preload"])
    process = context.Process(target=_run, name=name, args=(str(log), clock, target, args))
    process.start()
    return process


def _run(log: str, clock: Path | None, target: Callable[..., None], args: tuple[Any, ...]) -> None:
    if clock is not None:
        os.environ[CLOCK_FILE] = str(clock)  # libfaketime looks for it whenever it reads the time anew
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == 1:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver, who then ends us
    opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(opened, 1)
    os.dup2(opened, 2)
    target(*args)
    sys.stdout.flush()


async def ended(process: BaseProcess) -> int:
    """Wait for the end of a process; its exit status, or minus the signal that ended it."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_reader(process.sentinel, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(process.sentinel)
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def send_signal(process: BaseProcess, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone."""
    if process.is_alive() and process.pid is not None:
        os.kill(process.pid, number)


def stop_growing(pid: int) -> None:
    """Let a process have no more address space than it has.

    Raises:
        OSError, IndexError: it is gone.
    """
    status = Path(f"/proc/{pid}/status").read_text()
    used = int(status.split("VmSize:")[1].split()[0]) * 1024
    resource.prlimit(pid, resource.RLIMIT_AS, (used, resource.RLIM_INFINITY))


def let_grow(pid: int) -> None:
    """Take the limit of `stop_growing` away again."""
    resource.prlimit(pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
