"""What a catalogue lacks, and what in it cannot be right."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from xuankan.catalogue.issn import is_valid_issn
from xuankan.catalogue.model import Catalogue, fold

_FACTS = (
    "publisher",
    "issns",
    "country",
    "homepage",
    "open_access",
    "apc_usd",
    "languages",
    "licence",
    "subjects",
    "sjr",
    "quartile",
    "profile",
)


@dataclass(frozen=True, slots=True)
class CatalogueFinding:
    """Something that is wrong with one journal's field."""

    journal: str
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class CatalogueReport:
    """A catalogue's `missing` facts (how many journals lack each) and its `findings`, to be corrected.

    `cut_profiles` is how many profiles are longer than the model reads; their ends are never seen.
    """

    version: str
    journals: int
    missing: dict[str, int]
    cut_profiles: int
    findings: tuple[CatalogueFinding, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def check(
    catalogue: Catalogue, count_tokens: Callable[[str], int], max_profile_tokens: int
) -> CatalogueReport:
    """Look for what is missing and what is inconsistent.

    Args:
        catalogue: what to look at.
        count_tokens: length of a text in tokens of the model's tokenizer.
        max_profile_tokens: what is kept of a profile; the rest of a longer one is never read.
    """
    missing = {name: sum(getattr(j, name) in (None, "", ()) for j in catalogue) for name in _FACTS}
    cut = sum(count_tokens(journal.profile) > max_profile_tokens for journal in catalogue)
    findings: list[CatalogueFinding] = []
    issns: defaultdict[str, list[str]] = defaultdict(list)
    titles: defaultdict[str, list[str]] = defaultdict(list)
    for journal in catalogue:
        titles[fold(journal.title)].append(journal.id)
        for issn, times in Counter(journal.issns).items():
            issns[issn].append(journal.id)
            if times > 1:
                findings.append(CatalogueFinding(journal.id, "issns", f"{issn} is listed {times} times"))
            if not is_valid_issn(issn):
                findings.append(
                    CatalogueFinding(journal.id, "issns", f"{issn!r} is malformed or has a wrong check digit")
                )
        if not journal.profile.strip():
            findings.append(
                CatalogueFinding(journal.id, "profile", "empty: the model has nothing to rank it by")
            )
        elif fold(journal.profile) == fold(journal.title):
            findings.append(
                CatalogueFinding(journal.id, "profile", "only the title is known; give a scope or subjects")
            )
        if journal.open_access == "diamond" and journal.apc_usd:
            message = f"{journal.apc_usd:g}, though open_access is diamond (authors pay nothing)"
            findings.append(CatalogueFinding(journal.id, "apc_usd", message))
    for field, holders in (("issns", issns), ("title", titles)):
        for value, ids in holders.items():
            if len(ids) > 1:
                findings.append(
                    CatalogueFinding(ids[0], field, f"{value!r} is also that of {', '.join(ids[1:])}")
                )
    return CatalogueReport(catalogue.version, len(catalogue), missing, cut, tuple(findings))
