"""`xuankan read`: what files hold, before anything is ranked."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from xuankan.cli.options import catalogue_option, references_option
from xuankan.outlets import echo, json_text

if TYPE_CHECKING:
    from pathlib import Path

    from xuankan import Catalogue
    from xuankan.cli.inputs import Beside
    from xuankan.documents import Columns, Document, File, Problem
    from xuankan.documents.confined import ConfinedReaders

_SHOWN_TITLE = 100


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(allow_dash=True))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line for each record.")
@click.option(
    "--column",
    "columns",
    metavar="FIELD=NAME",
    multiple=True,
    help="A column's name, as title=Titel; id, title, abstract or keywords. Usual names are known.",
)
@references_option
@catalogue_option("The journals that are looked for among references.")
def read(
    files: tuple[str, ...],
    as_json: bool,
    columns: tuple[str, ...],
    references: str | None,
    catalogue_file: Path | None,
) -> None:
    """Show what files hold: titles, abstracts, keywords, references, and what could not be read.

    These are the readers of `recommend`, `rerank` and the portal. What a file is, is told by its content and
    its name; - reads standard input. The exit code is 2 if a file cannot be read at all.

    \b
    xuankan read paper.pdf
    xuankan read main.tex --references refs.bib
    xuankan read --json library.bib | jq 'select(.problem)'
    """  # noqa: D301  # click's mark is a real backspace
    from xuankan.catalogue import Catalogue
    from xuankan.cli.inputs import beside, given_file
    from xuankan.documents import Columns
    from xuankan.documents.confined import ConfinedReaders

    catalogue = Catalogue.default() if catalogue_file is None else Catalogue.load(catalogue_file)
    named = Columns.parse(columns)
    show = _show_json if as_json else _show
    put = beside(references)
    with ConfinedReaders() as readers:
        codes = [show(given_file(name), readers, named, put, catalogue) for name in files]
    click.get_current_context().exit(max(codes))


def _show_json(
    file: File, readers: ConfinedReaders, columns: Columns, put: Beside, catalogue: Catalogue
) -> int:
    from xuankan.cli.inputs import records_of
    from xuankan.documents import Document
    from xuankan.errors import Unreadable

    try:
        opened = readers.open(file, columns)
        for record in records_of(opened):
            found = put(record, opened.kind.is_list)
            made = _document(found, catalogue) if isinstance(found, Document) else _problem(found)
            _write({"file": file.name, **made})
    except Unreadable as error:
        _write({"file": file.name, "line": 0, "problem": error.reason})
        return 2
    return 0


def _document(found: Document, catalogue: Catalogue) -> dict[str, Any]:
    from xuankan.documents.citations import cited_journals

    return {
        "line": found.line,
        "id": found.identifier or None,
        "title": found.title,
        "abstract": found.abstract,
        "keywords": list(found.keywords),
        "references": len(found.references),
        "cited_journals": dict(cited_journals(found.references, catalogue)),
        "warnings": list(found.warnings),
    }


def _problem(found: Problem) -> dict[str, Any]:
    made: dict[str, Any] = {"line": found.line, "problem": found.problem}
    if found.identifier:
        made["id"] = found.identifier
    if found.text:
        made["text"] = found.text
    return made


def _show(file: File, readers: ConfinedReaders, columns: Columns, put: Beside, catalogue: Catalogue) -> int:
    from xuankan.cli.inputs import records_of
    from xuankan.documents import Document
    from xuankan.errors import Unreadable

    try:
        opened = readers.open(file, columns)
        echo(click.style(f"{file.name}: {opened.kind.label}", bold=True))
        documents = problems = 0
        for record in records_of(opened):
            found = put(record, opened.kind.is_list)
            if isinstance(found, Document):
                documents += 1
                _show_document(found, catalogue, whole=not opened.kind.is_list)
            else:
                problems += 1
                _warn(f"{_where(found.line)}{found.problem}")
    except Unreadable as error:
        _warn(str(error))
        return 2
    said = f"{documents:,} read" + (f", {problems:,} that cannot be used" if problems else "")
    echo(f"{said}\n")
    return 0


def _show_document(found: Document, catalogue: Catalogue, *, whole: bool) -> None:
    from xuankan.documents.citations import cited_journals

    title = found.title or "(no title)"
    if not whole and len(title) > _SHOWN_TITLE:
        title = f"{title[: _SHOWN_TITLE - 2]} …"
    counts = [f"abstract of {len(found.abstract):,} characters" if found.abstract else "no abstract"]
    counts += [f"{len(found.keywords)} keywords"] if found.keywords else []
    counts += [f"{len(found.references)} references"] if found.references else []
    echo(f"{_where(found.line)}{title}" + ("" if whole else f"  ({', '.join(counts)})"))
    if whole:
        echo(f"\n{found.abstract or '(no abstract)'}\n")
        echo(f"keywords: {'; '.join(found.keywords) or '–'}")
        echo(f"references: {len(found.references)}")
        cited = cited_journals(found.references, catalogue)
        for journal, count in sorted(cited.items(), key=lambda item: -item[1]):
            echo(f"  {count:>4} × {catalogue[catalogue.index(journal)].title}")
    for warning in found.warnings:
        _warn(f"{' ' * len(_where(found.line))}{warning}")


def _where(line: int) -> str:
    return f"{line:>6}  " if line else ""


def _warn(text: str) -> None:
    echo(click.style(text, fg="yellow"))


def _write(line: dict[str, Any]) -> None:
    sys.stdout.write(json_text(line) + "\n")
