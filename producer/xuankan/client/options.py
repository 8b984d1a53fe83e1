"""How a manuscript is to be ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict, cast

from xuankan.candidates import Filters
from xuankan.client.limits import ON_FULL, OnFull
from xuankan.errors import InputError
from xuankan.protocol.keys import LANES, Lane
from xuankan.protocol.wire import MAX_CANDIDATES


@dataclass(frozen=True, slots=True)
class RankingOptions:
    """How a manuscript is ranked. Each field is also a keyword of `rank`, `submit` and `rank_many`.

        PATIENT = RankingOptions(top_k=5, deadline_s=60)
        await producer.rank(manuscript, top_k=5)
        await producer.rank(manuscript, PATIENT)
        await producer.rank(manuscript, PATIENT, top_k=3)  # a keyword counts more

    Attributes:
        top_k: how many journals to return at most.
        candidates: how many journals the model scores, the first stage's best; or the ids of those to score.
        filters: facts that a journal must have to be scored.
        lane: `interactive` if a person waits, else `bulk`. None leaves it to the method: `rank` takes
            `interactive`, the others `bulk`.
        deadline_s: seconds after which the ranking is of no use: a wait ends with RequestExpired, and no
            worker spends time on it any more. None: never.
        on_full: what to do while the queue is full (see `Limits`): `wait` until there is room or the deadline
            passes, or `raise` QueueFull at once.

    Raises:
        InputError: a value of the wrong type, or out of its range.
    """

    top_k: int = 10
    candidates: int | Sequence[str] = 100
    filters: Filters | None = None
    lane: Lane | None = None
    deadline_s: float | None = None
    on_full: OnFull = "wait"

    def __post_init__(self) -> None:
        # Values often come straight from a form or from JSON, so their types are not taken on trust.
        _check_count("top_k", self.top_k)
        candidates = cast("Any", self.candidates)
        if isinstance(candidates, int | float):
            _check_count("candidates", candidates)
        elif isinstance(candidates, str) or not isinstance(candidates, Sequence):
            raise InputError("candidates", f"must be a number or a list of journal ids, not {candidates!r}")
        else:
            named = tuple(cast("Sequence[Any]", candidates))
            if strange := [name for name in named if not isinstance(name, str)]:
                raise InputError("candidates", f"must be ids of journals, not {strange[0]!r}")
            if not 1 <= len(named) <= MAX_CANDIDATES:
                raise InputError("candidates", f"must be 1 to {MAX_CANDIDATES:,} journals, not {len(named)}")
            object.__setattr__(self, "candidates", named)
        if not isinstance(cast("Any", self.filters), Filters | None):
            raise InputError("filters", f"must be xuankan.Filters, not {self.filters!r}")
        if self.lane is not None and self.lane not in LANES:
            raise InputError("lane", f"must be one of {', '.join(LANES)}, not {self.lane!r}")
        if self.on_full not in ON_FULL:
            raise InputError("on_full", f"must be one of {', '.join(ON_FULL)}, not {self.on_full!r}")
        deadline_s = cast("Any", self.deadline_s)
        if deadline_s is not None:
            if isinstance(deadline_s, bool) or not isinstance(deadline_s, int | float):
                raise InputError("deadline_s", f"must be a number of seconds, not {deadline_s!r}")
            if not 0 < deadline_s < 1e9:
                raise InputError("deadline_s", f"must be greater than 0 seconds, not {deadline_s:g}")


class RankingKeywords(TypedDict, total=False):
    """The fields of `RankingOptions`, for the signatures of methods that take them as keywords."""

    top_k: int
    candidates: int | Sequence[str]
    filters: Filters | None
    lane: Lane | None
    deadline_s: float | None
    on_full: OnFull


def combined(options: RankingOptions | None, keywords: RankingKeywords, lane: Lane) -> RankingOptions:
    """What a call asks for: its options with its keywords in their place, in `lane` if neither names one.

    Raises:
        InputError: as of `RankingOptions`.
        TypeError: a keyword that is none.
    """
    asked = RankingOptions(**keywords) if options is None else replace(options, **keywords)
    return asked if asked.lane is not None else replace(asked, lane=lane)


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(name, f"must be a whole number, not {value!r}")
    if not 1 <= value <= MAX_CANDIDATES:
        raise InputError(name, f"must be 1 to {MAX_CANDIDATES:,} journals, not {value}")
