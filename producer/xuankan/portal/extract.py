"""What is in the files that an author drops, of any kind that `documents` reads: a manuscript, or references.

Files come from strangers, and the libraries that read them are large. So each file is read by a process of
its own, with limits on memory and time, that can write nowhere (`extract_child`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final, Literal, cast

from xuankan.bounded import confined_command
from xuankan.catalogue import Catalogue
from xuankan.errors import InputError

MAX_FILE_BYTES: Final = 20 * 2**20
MAX_MANUSCRIPTS: Final = 100
"""Of a list of records; nobody picks from a longer one."""
MAX_WAIT_S: Final = 20.0
Asked = Literal["manuscripts", "references"]
_MAX_SUFFIX: Final = 20


@dataclass(frozen=True, slots=True)
class Extracted:
    """What was found of one manuscript; `title` or `abstract` may be empty, not both.

    Attributes:
        references: how many works it lists.
        cited: journal id -> how many of them are to it; None if it lists none.
    """

    title: str
    abstract: str
    keywords: tuple[str, ...] = ()
    references: int = 0
    cited: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Extraction:
    """What a file holds.

    Attributes:
        format: as what it was read, a name of `documents.kinds`.
        manuscripts: 1 to `MAX_MANUSCRIPTS`; more than one in lists of records alone.
        left_out: how many more records it has, with those that cannot be used.
        warnings: what the author should check.
    """

    format: str
    manuscripts: tuple[Extracted, ...]
    left_out: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExtractedReferences:
    """A file as a reference list; `references` and `cited` as of `Extracted`."""

    references: int
    cited: Mapping[str, int]
    warnings: tuple[str, ...] = ()


async def extract(data: bytes, name: str, catalogue: Catalogue) -> Extraction:
    """Read a file; `name` is what its owner calls it, of which only the ending counts.

    The catalogue's journals are looked for among its references.

    Raises:
        InputError: it is too large, of no kind that is read, damaged, locked, a scan, or takes too long.
    """
    answer = await _read(data, name, "manuscripts", catalogue)
    return Extraction(
        format=answer["format"],
        manuscripts=tuple(
            Extracted(**found | {"keywords": tuple(found["keywords"])}) for found in answer["manuscripts"]
        ),
        left_out=answer["left_out"],
        warnings=tuple(answer["warnings"]),
    )


async def extract_references(data: bytes, name: str, catalogue: Catalogue) -> ExtractedReferences:
    """Read a file as the reference list of a manuscript, as `documents.reference_lists` has it.

    Raises:
        InputError: as of `extract`, or it lists none.
    """
    answer = await _read(data, name, "references", catalogue)
    return ExtractedReferences(answer["references"], answer["cited"], tuple(answer["warnings"]))


async def _read(data: bytes, name: str, asked: Asked, catalogue: Catalogue) -> dict[str, Any]:
    if len(data) > MAX_FILE_BYTES:
        raise InputError("file", f"more than {MAX_FILE_BYTES // 2**20} MiB: paste the title and the abstract")
    # Of the catalogue no more than references are found by; the child has no file of it.
    journals = [(journal.id, journal.title, journal.issns) for journal in catalogue]
    head = json.dumps({"suffix": _suffix(name), "asked": asked, "journals": journals}).encode()
    answer = await _in_child(head + b"\n" + data)
    if (problem := answer.get("error")) is not None:
        raise InputError("file", str(problem))
    return answer


def _suffix(name: str) -> str:
    """The ending of a file's name, with nothing in it that could be anything else."""
    suffix = PurePath(name.replace("\\", "/")).suffix[:_MAX_SUFFIX]
    return suffix if suffix[1:].replace("-", "").replace("_", "").isalnum() else ""


async def _in_child(given: bytes) -> dict[str, Any]:
    command, environment = confined_command("xuankan.portal.extract_child")
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
    )
    try:
        async with asyncio.timeout(MAX_WAIT_S):
            answer, _ = await process.communicate(given)
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
