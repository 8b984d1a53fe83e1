"""Reading no more than was meant to be read: files that grow in memory, or are not what they are called.

What no program can be sure of (an endless loop, a fault of a library) is left to a process of its own, which
`confine` limits and `confined_command` starts.
"""

from __future__ import annotations

import os
import sys
import zlib
from typing import BinaryIO, Final

_GZIP: Final = 16 + zlib.MAX_WBITS
_PASSED_ON: Final = ("PATH", "PYTHONPATH", "LANG")
_OPEN_FILES: Final = 64


class TooLarge(ValueError):
    """More bytes than are read."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"more than {max_bytes / 2**20:g} MiB, the most that is read")


def read_bounded(file: BinaryIO, max_bytes: int) -> bytes:
    """All of a file.

    Raises:
        TooLarge: it has more than `max_bytes`; about as many were read.
    """
    data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise TooLarge(max_bytes)
    return data


def gunzip_bounded(data: bytes, max_bytes: int) -> bytes:
    """Decompress one gzip member.

    Raises:
        TooLarge: it holds more than `max_bytes`; no more than that was decompressed.
        ValueError: it is not one whole gzip member.
    """
    inflate = zlib.decompressobj(_GZIP)
    try:
        content = inflate.decompress(data, max_bytes + 1)
    except zlib.error as error:
        raise ValueError(f"not gzip data: {error}") from None
    if len(content) > max_bytes:
        raise TooLarge(max_bytes)
    if not inflate.eof or inflate.unused_data:
        raise ValueError("not gzip data, or only part of it")
    return content


def confined_command(module: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """The command and the environment of a process for files of strangers; its first call is `confine`.

    It finds this package and the system's libraries, and no secret that came in the environment.
    """
    # -P: the working directory's modules are none of ours.
    command = (sys.executable, "-P", "-m", module)
    return command, {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


def confine(memory_bytes: int, processor_s: int | None = None) -> None:
    """Limit this process from now on: its memory, its time if given; it can write no file."""
    import resource

    limits = {resource.RLIMIT_AS: memory_bytes, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0}
    limits[resource.RLIMIT_NOFILE] = _OPEN_FILES
    if processor_s is not None:
        limits[resource.RLIMIT_CPU] = processor_s
    for limit, value in limits.items():
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
