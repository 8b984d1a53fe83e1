"""Title, abstract and keywords out of the file that an author drops: BibTeX, RIS, PDF, Word, LaTeX or text.

Files come from strangers, and the libraries that read them are large. So each file is read by a process of
its own, with limits on memory and time, that can write nowhere (`extract_child`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any, Final, Literal, cast, get_args
from weakref import WeakKeyDictionary

from xuankan.errors import InputError

MAX_FILE_BYTES: Final = 20 * 2**20
MAX_MANUSCRIPTS: Final = 100
"""Of a bibliography; nobody picks from a longer list."""
MAX_WAIT_S: Final = 20.0

Format = Literal["bibtex", "ris", "pdf", "docx", "latex", "text"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)
_SUFFIXES: Final[Mapping[str, Format]] = {
    ".bib": "bibtex",
    ".ris": "ris",
    ".pdf": "pdf",
    ".docx": "docx",
    ".tex": "latex",
    ".txt": "text",
    ".md": "text",
}
_AT_ONCE: Final = 2
_slots: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Extracted:
    """What was found of one manuscript; `title` or `abstract` may be empty, not both."""

    title: str
    abstract: str
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Extraction:
    """What a file holds.

    Attributes:
        format: as what it was read.
        manuscripts: 1 to `MAX_MANUSCRIPTS`; more than one in bibliographies alone.
        left_out: how many more entries it has, with those that have neither title nor abstract.
        warnings: what the author should check.
    """

    format: Format
    manuscripts: tuple[Extracted, ...]
    left_out: int = 0
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)


async def extract(data: bytes, name: str) -> Extraction:
    """Read a file; `name` is what its owner calls it, of which only the ending counts.

    Raises:
        InputError: it is too large, of no kind that is read, damaged, locked, a scan, or takes too long.
    """
    if len(data) > MAX_FILE_BYTES:
        raise InputError("file", f"more than {MAX_FILE_BYTES // 2**20} MiB: paste the title and the abstract")
    kind = format_of(data, name)
    async with _slots.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(_AT_ONCE)):
        answer = await _in_child(data, kind)
    if (problem := answer.get("error")) is not None:
        raise InputError("file", str(problem))
    return Extraction(
        format=kind,
        manuscripts=tuple(
            Extracted(found["title"], found["abstract"], tuple(found["keywords"]))
            for found in answer["manuscripts"]
        ),
        left_out=answer["left_out"],
        warnings=tuple(answer["warnings"]),
    )


def format_of(data: bytes, name: str) -> Format:
    """What a file is: by its content where that tells, else by the ending of its name.

    Raises:
        InputError: none of `FORMATS`.
    """
    suffix = PurePath(name.replace("\\", "/")).suffix.lower()
    if not data.strip():
        raise InputError("file", "it is empty")
    if b"%PDF-" in data[:1024]:
        return "pdf"
    if data.startswith(b"PK\x03\x04"):
        if suffix in (".docx", ".docm"):
            return "docx"
        raise InputError(
            "file", f"a zip file called {suffix or 'nothing'}: of these only Word's .docx is read"
        )
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        raise InputError("file", "an old or locked Word file: save it as .docx, without a password")
    if data.startswith(b"{\\rtf"):
        raise InputError("file", "an RTF file: save it as .docx or .pdf")
    if suffix in (".pdf", ".docx"):
        raise InputError("file", f"it is called {suffix} but is none, or it is damaged")
    if (kind := _SUFFIXES.get(suffix)) is None:
        known = ", ".join(sorted(_SUFFIXES))
        raise InputError("file", f"a file called {suffix or 'without an ending'}; {known} are read")
    return kind


async def _in_child(data: bytes, kind: Format) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        # -P: the working directory's modules are none of ours.
        *(sys.executable, "-P", "-m", "xuankan.portal.extract_child", kind),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG") if name in os.environ},
    )
    try:
        async with asyncio.timeout(MAX_WAIT_S):
            answer, _ = await process.communicate(data)
    except TimeoutError:
        raise InputError(
            "file", f"reading it takes more than {MAX_WAIT_S:g} s: paste the title and the abstract"
        ) from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        raise InputError("file", "it is damaged, or too large inside: paste the title and the abstract")
    return cast("dict[str, Any]", json.loads(answer))
