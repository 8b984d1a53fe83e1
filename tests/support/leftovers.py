"""What a test may leave behind: no process, and on a server nothing that would stay for good."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from redis import Redis

PERMANENT = {
    r"\{[^{}]+:\d+\}:queue:(interactive|bulk)": "a lane's stream, which holds what is queued, and the group",
}
"""Pattern of a key -> why it may have no lifetime. All other keys have one, however a request ends."""
_WITHOUT_LIFETIME = """
local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  if redis.call('PTTL', key) == -1 then table.insert(found, key) end
end
return found
"""
_PR_SET_CHILD_SUBREAPER = 36
_LIFELONG = ("multiprocessing.forkserver", "multiprocessing.resource_tracker")
"""Processes that Python starts once and ends with the tests."""
_PATIENCE_S = 20
"""For what was killed to be gone, on a machine that is busy with other things."""


def keys_without_lifetime(command: Callable[..., Any]) -> list[str]:
    """Keys of the server of `command` that would stay for good, and have no reason to."""
    names = sorted(key.decode() for key in command("EVAL", _WITHOUT_LIFETIME, 0))
    return [name for name in names if not any(re.fullmatch(pattern, name) for pattern in PERMANENT)]


def check_keys(url: str) -> None:
    """Fail if a server holds keys that would stay for good; forget them, so that only one test fails."""
    with contextlib.closing(cast(Any, Redis).from_url(url, protocol=2, driver_info=None)) as client:
        if left := keys_without_lifetime(client.execute_command):
            client.execute_command("FLUSHALL")
    assert not left, f"keys without a lifetime: {left}"


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that `children` misses none."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children() -> set[int]:
    """Processes that this one has started or adopted, the ended ones that nobody waited for included."""
    found: set[int] = set()
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # the thread has ended
            found.update(int(pid) for pid in (thread / "children").read_text().split())
    return found


def check_processes(before: set[int]) -> None:
    """Fail if a process that was not there before is still alive; what is being killed is waited for."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while left := [said for pid in children() - before if (said := _alive(pid))]:
        assert time.monotonic() < deadline_s, f"processes left behind: {left}"
        time.sleep(0.005)


def _alive(pid: int) -> str:
    """The command line of a process; empty if it has ended, or may stay."""
    process = Path("/proc", str(pid))
    try:
        if (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
            os.waitpid(pid, os.WNOHANG)  # adopted: nobody else will
            return ""
        command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (OSError, ChildProcessError):
        return ""
    return "" if any(name in command for name in _LIFELONG) else f"{pid} {command}"
