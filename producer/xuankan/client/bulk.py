"""Many manuscripts at once, and what became of each."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from xuankan.client.pipeline import pipeline
from xuankan.client.rankings import Ranking
from xuankan.errors import ServerUnavailable, XuankanError
from xuankan.manuscript import Manuscript

Given = Manuscript | Mapping[str, Any]
"""A manuscript, or decoded JSON that `Manuscript.from_mapping` reads."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one of many manuscripts.

    Attributes:
        index: its place among the manuscripts, from 0.
        manuscript: what was given.
        ranking: set unless there is an error.
        error: why there is no ranking.
    """

    index: int
    manuscript: Given
    ranking: Ranking | None = None
    error: XuankanError | None = None


def rank_each(
    rank: Callable[[Manuscript], Awaitable[Ranking]],
    manuscripts: Iterable[Given] | AsyncIterable[Given],
    in_flight: int,
    *,
    ordered: bool = False,
) -> AsyncGenerator[Outcome]:
    """Rank all, at most `in_flight` at a time (see `pipeline`): a manuscript's error becomes its outcome.

    Raises:
        ServerUnavailable: which is no manuscript's own error.
    """
    numbers = itertools.count()

    async def work(given: Given) -> Outcome:
        index = next(numbers)  # before anything is waited for: in the order of the manuscripts
        try:
            manuscript = Manuscript.from_mapping(given) if isinstance(given, Mapping) else given
            return Outcome(index, given, ranking=await rank(manuscript))
        except ServerUnavailable:
            raise
        except XuankanError as error:
            return Outcome(index, given, error=error)

    return pipeline(manuscripts, work, in_flight, ordered=ordered)
