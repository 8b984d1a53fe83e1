"""How a file's bytes are text: found, not asked for, and said where it was a guess.

UTF-8 is what most files are; UTF-16 has a mark or zeros in every other byte; what a file declares is believed
if it can be; the rest is guessed.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from typing import BinaryIO, Final

from xuankan.documents.encoding_guess import guess_encoding
from xuankan.documents.files import File
from xuankan.documents.model import MAX_RECORD_BYTES

_CHUNK_BYTES: Final = 2**20
_SAMPLE_BYTES: Final = 64 * 2**10
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARED: Final = re.compile(
    rb"(?:<\?xml[^>]{0,200}?encoding\s*=\s*[\"']|%\s*Encoding:\s*|coding[:=]\s*|"
    rb"\\usepackage\s*\[\s*|^@charset\s+[\"'])([A-Za-z][\w.:-]{1,30})",
    re.IGNORECASE | re.MULTILINE,
)
_NAMES: Final = {"ansinew": "cp1252", "latin1": "cp1252", "iso-8859-1": "cp1252", "applemac": "mac_roman"}
"""What LaTeX calls them; and what is declared as Latin-1 is Windows' superset of it, as browsers take it."""
_MIXED: Final = "xuankan.mixed"


@dataclass(frozen=True, slots=True)
class Encoding:
    """How bytes become text.

    Attributes:
        name: the codec's.
        errors: its error handler: a byte that it cannot read costs that character only.
        warning: what to tell of it; empty if it is certain.
    """

    name: str
    errors: str = "replace"
    warning: str = ""


def find_encoding(file: File) -> Encoding:
    """The encoding of a file; all of it is looked at, in memory that does not grow with it."""
    with file.open() as handle:
        return _find(handle)


def decode(data: bytes) -> tuple[str, str]:
    """A whole text with the line ends of Unix, and a warning, empty if its encoding is certain."""
    encoding = _find(BytesIO(data))
    text = data.decode(encoding.name, encoding.errors)
    return text.replace("\r\n", "\n").replace("\r", "\n"), encoding.warning


def decode_head(data: bytes) -> str:
    """The beginning of a text, good enough to tell what it is. Line ends are those of Unix."""
    marked = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    name = marked or _unmarked_utf16(data) or "utf-8"
    text = data.decode(name, "replace").lstrip("\ufeff")
    return text.replace("\r\n", "\n").replace("\r", "\n")


class Lines:
    """The lines of a text file, each with its end; of one that is too long, the beginning.

    Line ends of all systems are known; `encoding.warning` says if the encoding was a guess.
    """

    def __init__(self, file: File) -> None:
        self._file = file
        self.encoding = find_encoding(file)

    def __iter__(self) -> Iterator[str]:
        with self.text() as text:
            while line := text.readline(MAX_RECORD_BYTES):
                yield line
                while not line.endswith("\n") and (line := text.readline(MAX_RECORD_BYTES)):
                    pass

    def text(self) -> TextIOWrapper:
        """The file as text, decoded as it is read, with the line ends of Unix."""
        return TextIOWrapper(self._file.open(), self.encoding.name, self.encoding.errors, newline=None)


def _find(handle: BinaryIO) -> Encoding:
    head = handle.read(_SAMPLE_BYTES)
    for mark, name in _MARKS:
        if head.startswith(mark):
            return Encoding(name)
    if (name := _unmarked_utf16(head)) is not None:
        return Encoding(name)
    handle.seek(0)
    sample = bytearray()
    decoder = codecs.getincrementaldecoder("utf-8")()
    is_utf8 = True
    while chunk := handle.read(_CHUNK_BYTES):
        if is_utf8:
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError:
                is_utf8 = False
        if len(sample) < _SAMPLE_BYTES and not chunk.isascii():
            for line in chunk.splitlines(keepends=True):
                sample += b"" if line.isascii() else line[:_SAMPLE_BYTES]
        if not is_utf8 and len(sample) >= _SAMPLE_BYTES:
            break
    if is_utf8:
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            is_utf8 = False
    if is_utf8:
        return Encoding("utf-8")
    return _guess(head, bytes(sample))


def _unmarked_utf16(head: bytes) -> str | None:
    """UTF-16 of mostly Latin text has a zero in every other byte."""
    even, odd = head[0:2000:2], head[1:2000:2]
    if len(odd) < 4:
        return None
    if odd.count(0) > 0.6 * len(odd) and even.count(0) < 0.1 * len(even):
        return "utf-16-le"
    if even.count(0) > 0.6 * len(even) and odd.count(0) < 0.1 * len(odd):
        return "utf-16-be"
    return None


def _guess(head: bytes, sample: bytes) -> Encoding:
    lines = [line for line in sample.splitlines() if not line.isascii()]
    good = sum(_is_utf8(line) for line in lines)
    if good > len(lines) / 2:  # several exports in one file, or a few damaged characters
        return Encoding(
            "utf-8",
            _MIXED,
            "not all of the file is in UTF-8: the rest was read as windows-1252, please check accents",
        )
    if (declared := _DECLARED.search(head[:4096])) is not None:
        named = declared[1].decode().lower()
        name = _NAMES.get(named, named)
        if _decodes(sample, name):
            return Encoding(name)
    name = guess_encoding(sample)
    shown = name.replace("cp125", "windows-125").replace("_", "-")
    return Encoding(
        name, "replace", f"the file is not in UTF-8: it was read as {shown}, please check accents"
    )


def _is_utf8(line: bytes) -> bool:
    return _decodes(line, "utf-8")


def _decodes(data: bytes, name: str) -> bool:
    try:
        data.decode(name)
    except (UnicodeDecodeError, LookupError, ValueError):
        return False
    return True


def _as_windows(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


codecs.register_error(_MIXED, _as_windows)
