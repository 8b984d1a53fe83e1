"""Reading no more than was meant to be read: files that grow in memory, or are not what they are called."""

from __future__ import annotations

import zlib
from typing import BinaryIO, Final

_GZIP: Final = 16 + zlib.MAX_WBITS


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
