"""Rankings as tables for people and as plain values for programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.markup import escape
from rich.style import Style
from rich.table import Table
from rich.text import Text

from xuankan.client.rankings import Ranking
from xuankan.errors import RequestError, XuankanError
from xuankan.outlets import json_text
from xuankan.protocol.ranked import RankedJournal
from xuankan.terminal import Terminal

_UNKNOWN: Final = "–"
_WIDTH_WITHOUT_TERMINAL: Final = 140
_WITH_EVIDENCE: Final = 3
"""Journals of which similar papers are shown; --json has them of all."""
_FEW_FIT: Final = "Few journals here fit this manuscript: its field may be outside the catalogue."


def console() -> Console:
    """Where tables go; wide where nothing says how wide it is."""
    wide = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Terminal(width=_WIDTH_WITHOUT_TERMINAL if wide else None, highlight=False)


def ranking_view(heading: str, ranking: Ranking, appeared_in: str | None = None) -> Group:
    """A ranking to print: its heading, table, warnings, and where the time went.

    Args:
        heading: names the manuscript.
        ranking: what to show.
        appeared_in: title of the journal in which the manuscript really appeared; it is marked.
    """
    parts: list[Table | Text] = [Text(heading, style="bold"), _table(ranking.journals, appeared_in)]
    if appeared_in is not None:
        among = any(_title(place) == appeared_in for place in ranking)
        where = "◀ is where it appeared." if among else f"It appeared in {appeared_in}, not among these."
        parts.append(Text(where, style="dim"))
    if ranking.few_fit:
        parts.append(Text(_FEW_FIT, style="yellow"))
    parts += [*_evidence(ranking.journals)]
    if cited := [place for place in ranking.journals if place.metadata.get("cited")]:
        told = ", ".join(f"{_title(place)} {_times(place.metadata['cited'])}" for place in cited)
        parts.append(Text(f"You cite {told}."))
    parts += [Text(f"warning: {warning}", style="yellow") for warning in ranking.warnings]
    parts.append(Text(_timings(ranking) + "\n", style="dim"))
    return Group(*parts)


def ranking_json(title: str, ranking: Ranking) -> str:
    """A ranking as one line of JSON."""
    return json_text({"title": title, **asdict(ranking), "few_fit": ranking.few_fit})


def error_json(title: str, error: XuankanError) -> str:
    """Why there is no ranking, as one line of JSON."""
    code = error.code if isinstance(error, RequestError) else type(error).__name__
    return json_text({"title": title, "error": {"code": code, "message": str(error)}})


def _table(journals: Sequence[RankedJournal], appeared_in: str | None) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("journal", min_width=14)
    table.add_column("publisher", min_width=10)
    table.add_column("ISSN", no_wrap=True)
    table.add_column("subjects", min_width=11)
    table.add_column("open\naccess", min_width=6)
    table.add_column("APC", justify="right", no_wrap=True, min_width=6)
    for place in journals:
        facts = place.metadata
        here = appeared_in is not None and _title(place) == appeared_in
        title = Text(_title(place), style="bold green" if here else "")
        if here:
            title.append("  ◀")
        table.add_row(
            str(place.rank),
            f"{place.score:.3f}",
            title,
            _text(facts, "publisher"),
            "\n".join(facts.get("issns") or ()) or _UNKNOWN,
            ", ".join((facts.get("subjects") or ())[:2]) or _UNKNOWN,
            _text(facts, "open_access"),
            _price(facts.get("apc_usd")),
        )
    return table


def _evidence(journals: Sequence[RankedJournal]) -> Iterator[Text]:
    """The papers that speak for the first journals."""
    for place in journals[:_WITH_EVIDENCE]:
        if place.evidence:
            yield Text(f"Similar papers in {_title(place)}:", style="bold")
        for paper in place.evidence:
            line = Text(f"  {paper.nearness:.2f}  {paper.title} ({paper.year})")
            if paper.link:
                line.append(f"  {paper.link}", style=Style(dim=True, link=paper.link))
            yield line


def _title(place: RankedJournal) -> str:
    return str(place.metadata.get("title") or place.journal)


def _text(facts: Mapping[str, Any], name: str) -> str:
    return escape(str(facts.get(name) or _UNKNOWN))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _price(apc_usd: object) -> str:
    return f"${apc_usd:,.0f}" if isinstance(apc_usd, int | float) else _UNKNOWN


def _timings(ranking: Ranking) -> str:
    spent = ranking.timings
    parts = {
        "prepare": spent.prepare_ms,
        "queue": spent.queue_ms,
        "batch": spent.batch_ms,
        "engine": spent.engine_ms,
        "rank": spent.rank_ms,
        "commit": spent.commit_ms,
    }
    shown = ", ".join(f"{name} {_duration(value)}" for name, value in parts.items() if value is not None)
    total = "" if spent.total_ms is None else f"{_duration(spent.total_ms)} in all: "
    some = 0 < ranking.rows < ranking.scored
    rows = f", {ranking.rows} of them by the cross-encoder" if some else ""
    return f"{ranking.scored} journals scored{rows}; {total}{shown}; release {ranking.release}"


def _duration(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.2f} s" if milliseconds >= 1000 else f"{milliseconds:.1f} ms"
