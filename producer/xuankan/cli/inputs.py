"""Manuscripts from files and standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from xuankan.bounded import TooLarge, read_bounded
from xuankan.documents import File
from xuankan.documents.model import MAX_DOCUMENT_BYTES
from xuankan.errors import Unreadable

STDIN: Final = "<stdin>"


def given_file(name: str) -> File:
    """The file that a command was given; `-` is standard input.

    Raises:
        Unreadable: standard input holds too much.
    """
    if name != "-":
        return File.at(Path(name))
    try:
        return File(STDIN, data=read_bounded(sys.stdin.buffer, MAX_DOCUMENT_BYTES))
    except TooLarge as error:
        raise Unreadable(STDIN, f"{error}: give the file's name instead") from None
