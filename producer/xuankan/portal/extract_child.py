"""`python -m xuankan.portal.extract_child`: reads one file from standard input, prints what it holds.

The first line of standard input is JSON: `suffix` of the file's name, what is `asked`, and the `journals`
that are looked for among references. The file follows.

This is the process that may die: of a zip bomb, of a PDF that loops, of a fault in a library.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from xuankan.bounded import confine

if TYPE_CHECKING:
    from xuankan.catalogue import Catalogue
    from xuankan.documents import Document, File

_MEMORY_BYTES: Final = 512 * 2**20
"""Files take 30 to 120 MiB, those of 20 MiB too. `gateway.READING_AT_ONCE` of these, the uploads that wait
and the portal itself make the limit that deploy/ gives a portal, 2 GiB: change them together."""
_CPU_S: Final = 20
_MAX_WARNINGS: Final = 5


def manuscripts(file: File, catalogue: Callable[[], Catalogue]) -> dict[str, Any]:
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
        "manuscripts": [_plain(one, catalogue) for one in found],
        "left_out": seen - len(found),
        "warnings": warnings,
    }


def references(file: File, catalogue: Callable[[], Catalogue]) -> dict[str, Any]:
    """A file as a reference list, in plain values.

    Raises:
        Unreadable: it lists nothing, or nothing can be had of it.
    """
    from xuankan.documents.citations import cited_journals
    from xuankan.documents.reference_lists import read_references

    found = read_references(file)
    return {
        "references": len(found.references),
        "cited": dict(cited_journals(found.references, catalogue())),
        "warnings": found.warnings,
    }


def _plain(found: Document, catalogue: Callable[[], Catalogue]) -> dict[str, Any]:
    from xuankan.documents.citations import cited_journals

    return {
        "title": found.title,
        "abstract": found.abstract,
        "keywords": found.keywords,
        "references": len(found.references),
        "cited": dict(cited_journals(found.references, catalogue())) if found.references else None,
    }


def _left_out(problems: list[str]) -> str:
    if len(problems) == 1:
        return f"1 record cannot be used and was left out: {problems[0]}"
    return f"{len(problems)} records cannot be used and were left out; of the first: {problems[0]}"


def _nothing(problems: list[str]) -> str:
    from xuankan.documents.model import NO_RECORD

    if not problems:
        return NO_RECORD
    if len(problems) == 1:
        return problems[0]
    return f"none of its {len(problems)} records can be used; of the first: {problems[0]}"


def main() -> None:
    """Answer on standard output in JSON: what was found, or `error`."""
    confine(_MEMORY_BYTES, _CPU_S)
    from xuankan.documents import File
    from xuankan.errors import Unreadable

    head: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    suffix = head["suffix"]
    read = references if head["asked"] == "references" else manuscripts
    try:
        found = read(File(f"file{suffix}", data=sys.stdin.buffer.read()), partial(_catalogue, head))
    except Unreadable as error:
        found = {"error": str(error).removeprefix(f"{error.field}: ")}
    except ModuleNotFoundError as error:
        found = {"error": f"files called {suffix} are not read here: the portal lacks {error.name}"}
    json.dump(found, sys.stdout)


def _catalogue(head: dict[str, Any]) -> Catalogue:
    from xuankan.catalogue import Catalogue, Journal

    return Catalogue(tuple(Journal(id_, title, issns=tuple(issns)) for id_, title, issns in head["journals"]))


if __name__ == "__main__":
    main()
