"""Which journals a request scores: the first stage's best that pass the author's filters, or those it names.

A filter asks for a fact, so a journal for which that fact is unknown never passes. A warning says how many
journals were left out for that reason alone, so that nobody mistakes "unknown" for "no".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from xuankan.catalogue.model import Catalogue, Journal, fold
from xuankan.errors import FilterError, InputError


@dataclass(frozen=True, slots=True)
class Filters:
    """Conditions that a journal must meet to be scored. None or empty: no condition. All must hold.

    Attributes:
        open_access: True: open journals only (gold or diamond). False: the others only (hybrid,
            subscription).
        max_apc_usd: the list price of open-access publication is at most this many US dollars. A
            subscription journal of unknown price passes, since publishing there need not cost anything; a
            hybrid journal of unknown price does not.
        languages: the journal publishes in at least one of these (ISO 639-1 codes).
        publishers: the publisher's name contains one of these texts, ignoring case and accents.
        subjects: one of the journal's subjects contains one of these texts, ignoring case and accents.

    Raises:
        FilterError: a value of the wrong type, negative, not finite, or an empty text.
    """

    open_access: bool | None = None
    max_apc_usd: float | None = None
    languages: tuple[str, ...] = ()
    publishers: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # Values often come straight from a form or from JSON, so their types are not taken on trust.
        open_access, max_apc_usd = cast("Any", self.open_access), cast("Any", self.max_apc_usd)
        if open_access is not None and not isinstance(open_access, bool):
            raise FilterError("open_access", f"must be true, false or left out, not {open_access!r}")
        if max_apc_usd is not None:
            if isinstance(max_apc_usd, bool) or not isinstance(max_apc_usd, int | float):
                raise FilterError("max_apc_usd", f"must be a number of US dollars, not {max_apc_usd!r}")
            if not 0 <= max_apc_usd < float("inf"):
                raise FilterError("max_apc_usd", f"must be 0 US dollars or more, not {max_apc_usd!r}")
        for name in ("languages", "publishers", "subjects"):
            values: Any = getattr(self, name)
            if isinstance(values, str) or not isinstance(values, Sequence):
                raise FilterError(name, f"must be a list of texts, not {values!r}")
            for value in cast("Sequence[Any]", values):
                if not isinstance(value, str) or not fold(value):
                    raise FilterError(name, f"must hold texts with a letter or digit, not {value!r}")
            object.__setattr__(self, name, tuple(cast("Sequence[str]", values)))
        for language in self.languages:
            if len(language) != 2 or not language.isascii() or not language.isalpha():
                raise FilterError(
                    "languages", f"must hold two-letter ISO 639-1 codes such as 'en', not {language!r}"
                )

    def __bool__(self) -> bool:
        return any(getattr(self, f.name) not in (None, ()) for f in fields(self))

    def admits(self, journal: Journal) -> bool | None:
        """True if the journal meets every condition, False if it fails one, None if that is not known."""
        verdicts = [self._open(journal), self._price(journal)]
        verdicts.append(_any_of(self.languages, journal.languages, exact=True))
        verdicts.append(
            _any_of(self.publishers, (journal.publisher,) if journal.publisher else (), exact=False)
        )
        verdicts.append(_any_of(self.subjects, journal.subjects, exact=False))
        if False in verdicts:
            return False
        return None if None in verdicts else True

    def _open(self, journal: Journal) -> bool | None:
        if self.open_access is None:
            return True
        if journal.open_access is None:
            return None
        return (journal.open_access in ("gold", "diamond")) == self.open_access

    def _price(self, journal: Journal) -> bool | None:
        if self.max_apc_usd is None:
            return True
        if journal.apc_usd is not None:
            return journal.apc_usd <= self.max_apc_usd
        return True if journal.open_access in ("subscription", "diamond") else None


def _any_of(wanted: Sequence[str], known: Sequence[str], *, exact: bool) -> bool | None:
    if not wanted:
        return True
    if not known:
        return None
    folded = [fold(value) for value in known]
    needles = [fold(value) for value in wanted]
    return any(needle == value if exact else needle in value for needle in needles for value in folded)


@dataclass(frozen=True, slots=True)
class Selection:
    """The journals to score, best first by the first stage.

    Attributes:
        indices: positions in the catalogue, uint32 [N], distinct.
        scores: the first stage's scores of these journals, float32 [N], falling.
        warnings: what the author should know of how they were picked.
    """

    indices: NDArray[np.uint32]
    scores: NDArray[np.float32]
    warnings: tuple[str, ...]


def select(
    first_stage_scores: NDArray[np.float32],
    catalogue: Catalogue,
    n: int,
    filters: Filters | None = None,
    named: Sequence[str] | None = None,
) -> Selection:
    """Pick the journals that a request scores.

    Args:
        first_stage_scores: float32 [J], one for each journal of `catalogue`.
        catalogue: the journals.
        n: how many to pick; fewer come back if the filters leave fewer. Named journals all come back.
        filters: conditions on the journals.
        named: ids of journals, to be scored instead of the first stage's best. Filters apply to them too.

    Raises:
        UnknownJournal: a named journal is not in the catalogue.
        FilterError: no journal passes the filters.
        InputError: `n` is below 1, `named` is empty, or the scores are of another catalogue.
    """
    if n < 1:
        raise InputError("candidates", f"must be at least 1, not {n}")
    if named is not None and not named:
        raise InputError(
            "candidates", "the list of named journals is empty; leave it out to have them picked"
        )
    if len(first_stage_scores) != len(catalogue):
        raise InputError(
            "catalogue",
            f"{len(first_stage_scores)} first-stage scores for a catalogue of {len(catalogue)} journals; "
            "use FirstStage.for_catalogue",
        )
    pool = np.arange(len(catalogue))
    if named is not None:
        pool = np.array(sorted({catalogue.index(journal_id) for journal_id in named}))
    warnings: list[str] = []
    if filters:
        pool, warnings = _filtered(pool, catalogue, filters)
    order = pool[np.argsort(-first_stage_scores[pool], kind="stable")]
    if named is None:
        order = order[:n]
    return Selection(order.astype(np.uint32), first_stage_scores[order].astype(np.float32), tuple(warnings))


def _filtered(
    pool: NDArray[np.int64], catalogue: Catalogue, filters: Filters
) -> tuple[NDArray[np.int64], list[str]]:
    verdicts = [filters.admits(catalogue[int(position)]) for position in pool]
    admitted = pool[[verdict is True for verdict in verdicts]]
    unknown = sum(verdict is None for verdict in verdicts)
    if not len(admitted):
        asked = ", ".join(f.name for f in fields(filters) if getattr(filters, f.name) not in (None, ()))
        raise FilterError(
            "filters",
            f"none of {len(pool)} journals passes ({asked}); for {unknown} the catalogue does not know. "
            "Loosen a filter, or import the missing metadata (xuankan catalogue import)",
        )
    if not unknown:
        return admitted, []
    warning = (
        f"the filters left out {unknown} of {len(pool)} journals because the catalogue does not know "
        "whether they meet them"
    )
    return admitted, [warning]
