"""`python -m xuankan.portal.extract_child SUFFIX`: reads one file from standard input, prints what it holds.

This is the process that may die: of a zip bomb, of a PDF that loops, of a fault in a library.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from xuankan.documents import File

_MEMORY_BYTES: Final = 512 * 2**20
"""Files take 30 to 120 MiB, those of 20 MiB too. `gateway.READING_AT_ONCE` of these, the uploads that wait
and the portal itself make the limit that deploy/ gives a portal, 2 GiB: change them together."""
_CPU_S: Final = 20
_OPEN_FILES: Final = 64
_MAX_WARNINGS: Final = 5


def _limit() -> None:
    for limit, value in (
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_CPU, _CPU_S),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))


def answer(file: File) -> dict[str, Any]:
    """What a file holds, in plain values; or `error`.

    Raises:
        Unreadable: nothing can be had of it.
    """
    from xuankan.documents import Document, open_file
    from xuankan.portal.extract import MAX_MANUSCRIPTS

    opened = open_file(file)
    found: list[Document] = []
    problems: list[str] = []
    seen = 0
    for record in opened.records():
        seen += 1
        if isinstance(record, Document):
            found.append(record)
        else:
            problems.append(record.problem)
        if len(found) == MAX_MANUSCRIPTS:
            # Whatever is behind them is counted, not read.
            seen = max(seen, opened.count())
            break
    if not found:
        return {"error": _nothing(problems)}
    warnings = list(dict.fromkeys(said for document in found for said in document.warnings))
    if len(warnings) > _MAX_WARNINGS:
        more = len(warnings) - _MAX_WARNINGS + 1
        warnings = [*warnings[: _MAX_WARNINGS - 1], f"and {more} more warnings about its records"]
    if problems:
        warnings.append(_left_out(problems))
    return {
        "format": opened.kind.name,
        "manuscripts": [
            {"title": one.title, "abstract": one.abstract, "keywords": list(one.keywords)} for one in found
        ],
        "left_out": seen - len(found),
        "warnings": warnings,
    }


def _left_out(problems: list[str]) -> str:
    if len(problems) == 1:
        return f"1 record cannot be used and was left out: {problems[0]}"
    return f"{len(problems)} records cannot be used and were left out; of the first: {problems[0]}"


def _nothing(problems: list[str]) -> str:
    if not problems:
        return "there is no record in it"
    if len(problems) == 1:
        return problems[0]
    return f"none of its {len(problems)} records can be used; of the first: {problems[0]}"


def main() -> None:
    """Answer on standard output in JSON: what was found, or `error`."""
    _limit()
    from xuankan.documents import File
    from xuankan.errors import Unreadable

    suffix = sys.argv[1] if len(sys.argv) > 1 else ""
    try:
        found = answer(File(f"file{suffix}", data=sys.stdin.buffer.read()))
    except Unreadable as error:
        found = {"error": str(error).removeprefix(f"{error.field}: ")}
    except ModuleNotFoundError as error:
        found = {"error": f"files called {suffix} are not read here: the portal lacks {error.name}"}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
