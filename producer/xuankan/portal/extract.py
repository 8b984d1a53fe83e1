"""Title, abstract and keywords out of the file that an author drops, of any kind that `documents` reads.

Files come from strangers, and the libraries that read them are large. So each file is read by a process of
its own, with limits on memory and time, that can write nowhere (`extract_child`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final, cast

from xuankan.errors import InputError

MAX_FILE_BYTES: Final = 20 * 2**20
MAX_MANUSCRIPTS: Final = 100
"""Of a list of records; nobody picks from a longer one."""
MAX_WAIT_S: Final = 20.0
_MAX_SUFFIX: Final = 20


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
        format: as what it was read, a name of `documents.kinds`.
        manuscripts: 1 to `MAX_MANUSCRIPTS`; more than one in lists of records alone.
        left_out: how many more records it has, with those that cannot be used.
        warnings: what the author should check.
    """

    format: str
    manuscripts: tuple[Extracted, ...]
    left_out: int = 0
    warnings: tuple[str, ...] = ()


async def extract(data: bytes, name: str) -> Extraction:
    """Read a file; `name` is what its owner calls it, of which only the ending counts.

    Raises:
        InputError: it is too large, of no kind that is read, damaged, locked, a scan, or takes too long.
    """
    if len(data) > MAX_FILE_BYTES:
        raise InputError("file", f"more than {MAX_FILE_BYTES // 2**20} MiB: paste the title and the abstract")
    answer = await _in_child(data, _suffix(name))
    if (problem := answer.get("error")) is not None:
        raise InputError("file", str(problem))
    return Extraction(
        format=answer["format"],
        manuscripts=tuple(
            Extracted(found["title"], found["abstract"], tuple(found["keywords"]))
            for found in answer["manuscripts"]
        ),
        left_out=answer["left_out"],
        warnings=tuple(answer["warnings"]),
    )


def _suffix(name: str) -> str:
    """The ending of a file's name, with nothing in it that could be anything else."""
    suffix = PurePath(name.replace("\\", "/")).suffix[:_MAX_SUFFIX]
    return suffix if suffix[1:].replace("-", "").replace("_", "").isalnum() else ""


async def _in_child(data: bytes, suffix: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        # -P: the working directory's modules are none of ours.
        *(sys.executable, "-P", "-m", "xuankan.portal.extract_child", suffix),
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
