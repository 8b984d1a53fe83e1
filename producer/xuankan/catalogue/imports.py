"""Bringing a deployment's own journals and metadata into a catalogue.

Three kinds of table are told apart by their headers:

- **own**: journals as CSV or JSON Lines. `title` is required; other columns are the fields of `Journal`
(several
  values in one cell are separated by `;`) and `scope`, a free text from which a profile is made if none is
  given. Journals that the catalogue has are brought up to date, others are added.
- **DOAJ**'s journal CSV: price, access, languages, licence and more for journals that the catalogue has.
- **SCImago**'s CSV (semicolons, decimal commas): indicator, quartile, categories and more, likewise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from xuankan.catalogue.issn import is_valid_issn, normalise_issn
from xuankan.catalogue.languages import language_code
from xuankan.catalogue.model import journal_from_dict, slug
from xuankan.catalogue.tables import read_csv, read_jsonl
from xuankan.errors import CatalogueError

Kind = Literal["own", "doaj", "scimago"]

_LISTS = ("issns", "languages", "subjects", "examples")
_PLAIN = ("id", "title", "publisher", "country", "homepage", "licence", "profile")
_OWN = frozenset((*_LISTS, *_PLAIN, "open_access", "apc_usd", "scope"))
_DOAJ_TITLE, _DOAJ_ISSN = "Journal title", "Journal ISSN (print version)"
_SCIMAGO = ("Sourceid", "Title", "Issn")


@dataclass(frozen=True, slots=True)
class ImportedRow:
    """What one row of a table says of one journal. `facts` are fields of `Journal` with a value."""

    where: str
    title: str
    issns: tuple[str, ...]
    facts: Mapping[str, Any]


@dataclass(slots=True)
class Table:
    """A table of journals: its kind, its rows, and what could not be understood in it, with how often."""

    kind: Kind
    rows: list[ImportedRow]
    doubts: dict[str, int] = field(default_factory=dict[str, int])

    def doubt(self, what: str) -> None:
        """Note something that was passed over."""
        self.doubts[what] = self.doubts.get(what, 0) + 1


def read_table(path: Path) -> Table:
    """Read a table of journals of any of the three kinds.

    Raises:
        CatalogueError: unreadable, of no known kind, empty, or a value that cannot be what its column says,
            naming line, field and value.
    """
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        table = Table("own", [])
        for number, row in read_jsonl(path):
            table.rows.append(_own(row, f"{path}, line {number}"))
    else:
        header, rows = read_csv(path)
        if _DOAJ_TITLE in header and _DOAJ_ISSN in header:
            table = _convert("doaj", path, rows, _doaj)
        elif all(name in header for name in _SCIMAGO):
            table = _convert("scimago", path, rows, _scimago)
        elif "title" in header:
            table = Table("own", [_own(_split_cells(row), f"{path}, line {n}") for n, row in rows])
        else:
            raise CatalogueError(
                f"{path} is not a table of journals: its header ({', '.join(header[:6])} …) is neither "
                "DOAJ's nor SCImago's and has no column 'title'"
            )
    if not table.rows:
        raise CatalogueError(f"{path} has no journals")
    return table


def _convert(
    kind: Kind,
    path: Path,
    rows: Iterator[tuple[int, dict[str, str]]],
    convert: Callable[[Mapping[str, str], str, Table], ImportedRow],
) -> Table:
    table = Table(kind, [])
    for number, row in rows:
        table.rows.append(convert(row, f"{path}, line {number}", table))
    return table


def _split_cells(row: Mapping[str, str]) -> dict[str, Any]:
    """A CSV row as a JSON row would be: lists split at `;`, numbers read, empty cells left out."""
    values: dict[str, Any] = {}
    for name, cell in row.items():
        if not cell:
            continue
        if name in _LISTS:
            values[name] = [part.strip() for part in cell.split(";") if part.strip()]
        elif name == "apc_usd":
            try:
                values[name] = float(cell.replace(" ", "").removeprefix("$"))
            except ValueError:
                values[name] = cell  # journal_from_dict complains, naming the row
        else:
            values[name] = cell
    return values


def _own(row: Mapping[str, Any], where: str) -> ImportedRow:
    if unknown := sorted(set(row) - _OWN):
        raise CatalogueError(f"{where}: unknown column {unknown[0]!r}; known are {', '.join(sorted(_OWN))}")
    facts = {name: value for name, value in row.items() if value not in (None, "", [])}
    title = facts.get("title")
    if not isinstance(title, str) or not slug(title):
        raise CatalogueError(f"{where}: title is {title!r}, not a text with a letter or digit in it")
    scope = facts.pop("scope", None)
    if scope is not None and not isinstance(scope, str):
        raise CatalogueError(f"{where}: scope is {scope!r}, not a text")
    checked = journal_from_dict({"id": slug(title), **facts}, where)
    facts = {name: getattr(checked, name) for name in facts}
    if "issns" in facts:
        facts["issns"] = tuple(_issn(value, where) for value in checked.issns)
    if "languages" in facts:
        facts["languages"] = tuple(_language(value, where) for value in checked.languages)
    if "profile" not in facts and (scope or checked.subjects):
        parts = (checked.title, ", ".join(checked.subjects), (scope or "").strip())
        facts["profile"] = " ".join(f"{part.rstrip('.')}." for part in parts if part)
    return ImportedRow(where, checked.title, facts.get("issns", ()), facts)


def _issn(value: str, where: str) -> str:
    issn = normalise_issn(value)
    if issn is None or not is_valid_issn(value):
        why = "does not have the form 1234-567X" if issn is None else "has a wrong check digit"
        raise CatalogueError(f"{where}: issns holds {value!r}, which {why}")
    return issn


def _language(value: str, where: str) -> str:
    if code := language_code(value):
        return code
    raise CatalogueError(
        f"{where}: languages holds {value!r}, neither an ISO 639-1 code nor a known language"
    )


def _valid_issns(cells: Sequence[str], table: Table) -> tuple[str, ...]:
    found: list[str] = []
    for cell in cells:
        for part in re.split(r"[,\s]+", cell):
            if part in ("", "-"):
                continue
            issn = normalise_issn(part)
            if issn is None or not is_valid_issn(issn):
                table.doubt(f"ISSN {part!r} is malformed or has a wrong check digit")
            elif issn not in found:
                found.append(issn)
    return tuple(found)


def _doaj(row: Mapping[str, str], where: str, table: Table) -> ImportedRow:
    def cell(name: str) -> str:
        return row.get(name, "")

    issns = _valid_issns((cell(_DOAJ_ISSN), cell("Journal EISSN (online version)")), table)
    languages: list[str] = []
    for name in cell("Languages in which the journal accepts manuscripts").split(","):
        if code := language_code(name):
            languages.append(code)
        elif name.strip():
            table.doubt(f"language {name.strip()!r} has no known code")
    charges = cell("APC").casefold()
    if charges not in ("yes", "no", ""):
        raise CatalogueError(f"{where}: APC is {row['APC']!r}, neither Yes nor No")
    facts: dict[str, Any] = {
        "issns": issns,
        "publisher": cell("Publisher"),
        "country": cell("Country of publisher"),
        "homepage": cell("Journal URL"),
        "licence": cell("Journal license"),
        "languages": tuple(dict.fromkeys(languages)),
        "subjects": tuple(_last_parts(cell("Subjects"))),
        "open_access": "diamond" if charges == "no" else "gold",
        "apc_usd": 0.0 if charges == "no" else _us_dollars(cell("APC amount"), where),
    }
    return ImportedRow(
        where, cell(_DOAJ_TITLE), issns, {k: v for k, v in facts.items() if v not in (None, "", ())}
    )


def _last_parts(subjects: str) -> list[str]:
    """DOAJ's `"Medicine: Surgery | Science: Physics"` -> `["surgery", "physics"]`: the narrowest words."""
    return [path.rpartition(":")[2].strip().lower() for path in subjects.split("|") if path.strip()]


def _us_dollars(amounts: str, where: str) -> float | None:
    """The US dollars among DOAJ's `"1500 USD; 1300 EUR"`. No other currency is converted: rates change."""
    for amount in amounts.split(";"):
        number, _, currency = amount.strip().rpartition(" ")
        if currency.upper() == "USD":
            try:
                return float(number.replace(",", ""))
            except ValueError:
                raise CatalogueError(f"{where}: APC amount is {amounts!r}, not a number of USD") from None
    return None


def _scimago(row: Mapping[str, str], where: str, table: Table) -> ImportedRow:
    quartile = row.get("SJR Best Quartile", "")
    if quartile not in ("Q1", "Q2", "Q3", "Q4", "-", ""):
        raise CatalogueError(f"{where}: SJR Best Quartile is {quartile!r}, not Q1 to Q4 or -")
    sjr = row.get("SJR", "")
    try:
        indicator = float(sjr.replace(".", "").replace(",", ".") if "," in sjr else sjr) if sjr else None
    except ValueError:
        raise CatalogueError(f"{where}: SJR is {sjr!r}, not a number such as 4,611") from None
    categories = [
        re.sub(r"\s*\(Q[1-4]\)$", "", part.strip()) for part in row.get("Categories", "").split(";")
    ]
    issns = _valid_issns((row["Issn"],), table)
    facts: dict[str, Any] = {
        "issns": issns,
        "publisher": row.get("Publisher"),
        "country": row.get("Country"),
        "subjects": tuple(c.lower() for c in categories if c and not c.endswith("(miscellaneous)")),
        "sjr": indicator,
        "quartile": quartile if quartile.startswith("Q") else None,
    }
    return ImportedRow(
        where, row["Title"], issns, {k: v for k, v in facts.items() if v not in (None, "", ())}
    )
