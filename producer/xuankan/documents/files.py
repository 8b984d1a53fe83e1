"""A file that can be read more than once: on disk, or in memory as a portal receives it."""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path, PurePath
from typing import BinaryIO

from xuankan.bounded import TooLarge, read_bounded
from xuankan.documents.model import MAX_DOCUMENT_BYTES
from xuankan.errors import Unreadable


@dataclass(frozen=True, slots=True)
class File:
    """Attributes: `name` is what its owner calls it; `path` is where it is, or `data` what it holds."""

    name: str
    path: Path | None = None
    data: bytes = field(default=b"", repr=False)

    @classmethod
    def at(cls, path: Path) -> File:
        """The file of a path."""
        return cls(str(path), path)

    @property
    def suffix(self) -> str:
        """The ending of the name in small letters, with its dot; a path of any system."""
        return PurePath(self.name.replace("\\", "/")).suffix.lower()

    def open(self) -> BinaryIO:
        """A new handle at the beginning.

        Raises:
            Unreadable: it cannot be opened.
        """
        if self.path is None:
            return BytesIO(self.data)
        try:
            return self.path.open("rb")
        except OSError as error:
            raise Unreadable(self.name, f"cannot be read: {error.strerror or error}") from error

    def head(self, size_bytes: int) -> bytes:
        """The first bytes."""
        with self.open() as file:
            return file.read(size_bytes)

    def whole(self) -> bytes:
        """All of it.

        Raises:
            Unreadable: it has more than `MAX_DOCUMENT_BYTES`, or cannot be opened.
        """
        with self.open() as file:
            try:
                return read_bounded(file, MAX_DOCUMENT_BYTES)
            except TooLarge as error:
                raise Unreadable(
                    self.name, f"{error}: give the title and the abstract in a file of their own"
                ) from None
