"""The same work for two systems: manuscripts for ours, pairs of texts of exactly its tokens for theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xuankan.client.options import RankingOptions
from xuankan.client.prepare import Preparer
from xuankan.manuscript import Manuscript
from xuankan.protocol.wire import Request


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """One manuscript and the journals to score for it.

    Attributes:
        manuscript: what the worker gets through the queue.
        journals: ids of its candidates, as the first stage chose them.
        texts: for each candidate, the manuscript's and the profile's text, cut where the template cuts.
        lengths: int64 [N], tokens of each pair, special tokens included.
        request: what a producer makes of it.
    """

    manuscript: Manuscript
    journals: tuple[str, ...]
    texts: tuple[tuple[str, str], ...]
    lengths: NDArray[np.int64]
    request: Request


def make_work(preparer: Preparer, manuscripts: Sequence[Manuscript], candidates: int) -> list[Work]:
    """Choose the candidates of manuscripts and write their pairs out."""
    template, catalogue = preparer.template, preparer.catalogue
    profiles = [
        _cut(preparer, journal.profile, template.max_profile_tokens) for journal in catalogue.journals
    ]
    work: list[Work] = []
    options = RankingOptions(candidates=candidates)
    for manuscript in manuscripts:
        request = preparer.request(manuscript, options, request_id="-", reply="-", now_ms=0)
        whole = ". ".join(part for part in (manuscript.title, manuscript.abstract) if part)
        text, tokens = _cut(preparer, whole, template.max_manuscript_tokens)
        assert tokens == len(request.tokens), (tokens, len(request.tokens))
        indices = [int(index) for index in request.candidates]
        work.append(
            Work(
                manuscript,
                tuple(catalogue.journals[index].id for index in indices),
                tuple((text, profiles[index][0]) for index in indices),
                np.array([tokens + profiles[index][1] + 3 for index in indices]),
                request,
            )
        )
    return work


def _cut(preparer: Preparer, text: str, budget: int) -> tuple[str, int]:
    """A text up to the end of its last token within the budget, and its tokens."""
    encoding = preparer.template.tokenizer.encode(text, add_special_tokens=False)
    if len(encoding.ids) <= budget:
        return text, len(encoding.ids)
    return text[: encoding.offsets[budget - 1][1]], budget
