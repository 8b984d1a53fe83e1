"""Zip files and the XML in them, from strangers: nothing is unpacked to disk, and what is read is bounded."""

from __future__ import annotations

import zipfile
import zlib
from importlib import import_module
from io import BytesIO
from typing import Any, Final

from xuankan.errors import Unreadable

MAX_PART_BYTES: Final = 64 * 2**20
"""Of one file inside, unpacked."""
MAX_FILES: Final = 20_000
MAX_PARAGRAPHS: Final = 50_000
"""Of a document of Word or OpenDocument that are looked at: a long book has 10,000."""
_MAX_PROPERTIES_BYTES: Final = 2**20
_DAMAGED: Final = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    ValueError,
    NotImplementedError,
    RuntimeError,  # a password is wanted
    EOFError,
    KeyError,
)


class Archive:
    """A zip file in memory, whose parts are read on demand. Names are compared without case.

    Raises:
        Unreadable: it is damaged, or holds more than `MAX_FILES` files.
    """

    def __init__(self, name: str, data: bytes) -> None:
        self._name = name
        try:
            self._zip = zipfile.ZipFile(BytesIO(data))
            listed = self._zip.infolist()
        except _DAMAGED as error:
            raise Unreadable(name, f"it is damaged ({error}): save or download it again") from None
        if len(listed) > MAX_FILES:
            raise Unreadable(name, f"it holds {len(listed):,} files, at most {MAX_FILES:,} are read")
        self._files = {_folded(info.filename): info for info in reversed(listed) if not info.is_dir()}

    @property
    def names(self) -> list[str]:
        """The files in it, as the archive calls them, in its order."""
        return [info.filename.replace("\\", "/") for info in reversed(self._files.values())]

    def __contains__(self, part: str) -> bool:
        return _folded(part) in self._files

    def read(self, part: str, limit_bytes: int = MAX_PART_BYTES) -> bytes | None:
        """A file in it; None if there is none of that name.

        Raises:
            Unreadable: it is damaged, locked, or has more than `limit_bytes` when unpacked.
        """
        info = self._files.get(_folded(part))
        if info is None:
            return None
        try:
            with self._zip.open(info) as file:
                # The size that the archive states is not believed.
                data = file.read(limit_bytes + 1)
        except _DAMAGED as error:
            locked = info.flag_bits & 1
            reason = (
                "it wants a password: save it without one" if locked else f"{part} in it is damaged ({error})"
            )
            raise Unreadable(self._name, reason) from None
        if len(data) > limit_bytes:
            raise Unreadable(
                self._name,
                f"{part} in it has more than {limit_bytes / 2**20:g} MiB: paste title and abstract",
            )
        return data


def parse_xml(name: str, data: bytes, *, recover: bool = False) -> Any:
    """The root element (of lxml). Nothing outside is fetched and no entity is resolved.

    Raises:
        Unreadable: it is no XML; with `recover` only if nothing can be had of it.
    """
    xml: Any = import_module("lxml.etree")  # it has no types
    parser = xml.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        recover=recover,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = xml.fromstring(data, parser)
    except (xml.XMLSyntaxError, ValueError) as error:
        raise Unreadable(name, f"it is damaged, or too large inside ({error})") from None
    if root is None:
        raise Unreadable(name, "it is damaged, or too large inside")
    return root


def local(element: Any) -> str:
    """The name of an element without its namespace: of strict and usual, old and new files alike.

    Of an entity that was left as it is, nothing.
    """
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def attribute(element: Any, name: str) -> str:
    """An attribute by its name without its namespace; empty if it is not there."""
    value = element.get(name)
    if value is not None:
        return str(value)
    return next(
        (str(held) for key, held in element.attrib.items() if str(key).rpartition("}")[2] == name), ""
    )


def _folded(name: str) -> str:
    return name.replace("\\", "/").casefold().lstrip("/")


def title_property(archive: Archive, part: str) -> str:
    """The title in the part that has a document's properties; empty if it has none, or cannot be read."""
    if (data := archive.read(part, _MAX_PROPERTIES_BYTES)) is None:
        return ""
    try:
        root = parse_xml(part, data, recover=True)
    except Unreadable:
        return ""
    titles = (element.text or "" for element in root.iter() if local(element) == "title")
    return next((" ".join(title.split()) for title in titles), "")
