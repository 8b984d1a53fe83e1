"""What is ranked in a run, by which model, and what must come out."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import time
from collections.abc import Iterable
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tests.chaos.plan import Marker, Work
from tests.support.engine import ScriptedEngine, ScriptedSlot, score_tokens
from xuankan.candidates import FirstStage
from xuankan.catalogue import Catalogue
from xuankan.client.options import RankingOptions
from xuankan.client.prepare import Preparer
from xuankan.manuscript import Manuscript
from xuankan.protocol.keys import Keys
from xuankan.protocol.ranked import RankedJournal
from xuankan.protocol.template import Template
from xuankan_worker.engines.base import TokenBatch
from xuankan_worker.execution.served_model import ServedModel

KEYS: Final = Keys("chaos")
RELEASE, WEIGHT, TEMPERATURE = "chaos-1", 0.7, 2.0
CANDIDATES, TOP_K = 8, 3
MARKERS: Final[dict[Marker, str]] = {"kill": "dracula", "raise": "goblin", "nan": "zeppelin"}
"""Words of the manuscript that stop the worker's process, break its batch, or spoil their rows."""
KILLED_BY_POISON: Final = signal.SIGABRT
_WORDS: Final = (
    *(
        "the",
        "of",
        "and",
        "with",
        "from",
        "measure",
        "theory",
        "plasma",
        "neutron",
        "protein",
        "cell",
        "graph",
    ),
    *(
        "market",
        "ocean",
        "surgery",
        "model",
        "film",
        "wave",
        "heat",
        "light",
        "bond",
        "acid",
        "tree",
        "policy",
    ),
    *(
        "soil",
        "policy",
        "growth",
        "energy",
        "field",
        "spin",
        "method",
        "sample",
        "noise",
        "rate",
        "effect",
        "large",
    ),
    *("small", "new", "fast", "optical", "chemical", "random", "linear", "human", "water", "carbon", "gene"),
)


def manuscript(text: int, marker: Marker | None) -> Manuscript:
    """One of a thousand or so small manuscripts, with a word that does harm if wanted."""
    chance = random.Random(text)
    words = [chance.choice(_WORDS) for _ in range(chance.randrange(15, 45))]
    if marker is not None:
        words.insert(chance.randrange(len(words)), MARKERS[marker])
    return Manuscript(" ".join(words[:6]), " ".join(words[6:]))


@cache
def preparer() -> Preparer:
    """As every producer's."""
    return Preparer.load(Template.default(), Catalogue.default(), FirstStage.default())


class ChaosEngine(ScriptedEngine):
    """The scripted engine; a token can end its process as a broken kernel would."""

    def open_slot(self, index: int) -> ScriptedSlot:
        assert index < self.info.slots
        self.opened += 1
        return _ChaosSlot(self, token("kill"))


class _ChaosSlot(ScriptedSlot):
    def __init__(self, engine: ScriptedEngine, deadly: int) -> None:
        super().__init__(engine)
        self._deadly = deadly

    def score(self, batch: TokenBatch) -> NDArray[np.float32]:
        if (batch.input_ids == self._deadly).any():
            os.kill(os.getpid(), KILLED_BY_POISON)
            time.sleep(60)
        return super().score(batch)


def token(marker: Marker) -> int:
    """The token of a marker; it is one, and no profile has it."""
    ids = Template.default().encode_manuscript(MARKERS[marker], "", ()).ids
    assert len(ids) == 1
    return int(ids[0])


@cache
def _profiles() -> tuple[list[int], ...]:
    template = Template.default()
    return tuple(template.encode_profile(one.profile).ids.tolist() for one in Catalogue.default().journals)


@cache
def served_model(row_s: float) -> ServedModel:
    """The release of a run's workers."""
    engine = ChaosEngine(poison=token("raise"), spoiled=token("nan"), row_s=row_s)
    found = ServedModel(engine, Template.default(), Catalogue.default(), RELEASE, WEIGHT, TEMPERATURE)
    harmful = {token(marker) for marker in MARKERS}
    assert not any(harmful.intersection(profile) for profile in _profiles())
    return found


OPTIONS: Final = RankingOptions(candidates=CANDIDATES, top_k=TOP_K)


@cache
def expected(text: int) -> str:
    """The digest of the ranking that an unharmed manuscript must get, bit for bit; worked out on its own."""
    asked = preparer().request(manuscript(text, None), OPTIONS, request_id="-", reply="-", now_ms=0)
    template, profiles = Template.default(), _profiles()
    journals: list[int] = asked.candidates.tolist()
    firsts: list[float] = asked.first_stage.tolist()
    tokens: list[int] = asked.tokens.tolist()
    raw: list[float] = [
        score_tokens([template.cls_id, *tokens, template.sep_id, *profiles[journal], template.sep_id])
        for journal in journals
    ]
    logits = [cross + WEIGHT * first for cross, first in zip(raw, firsts, strict=True)]
    odds = np.exp((np.array(logits) - max(logits)) / TEMPERATURE)
    shares: list[float] = (odds / odds.sum()).tolist()
    places = sorted(range(len(journals)), key=lambda place: (-logits[place], journals[place]))[:TOP_K]
    catalogue = Catalogue.default()
    return _digest(
        (rank, catalogue[journals[place]].id, shares[place], logits[place], raw[place], firsts[place])
        for rank, place in enumerate(places, start=1)
    )


def digest(ranking: Iterable[RankedJournal]) -> str:
    """A ranking's digest: equal only if every place of it is, to the last bit."""
    return _digest(
        (one.rank, one.journal, one.score, one.logit, one.cross_encoder, one.first_stage) for one in ranking
    )


def _digest(places: Iterable[tuple[int, str, float, float, float | None, float]]) -> str:
    return hashlib.sha256(repr(list(places)).encode()).hexdigest()[:16]


def allowed(work: Work) -> frozenset[str]:
    """How a request may end."""
    if work.marker is not None:
        return frozenset({"failed"})
    if work.action == "cancel":
        return frozenset({"ok", "cancelled"})
    if work.action == "expire":
        return frozenset({"ok", "expired"})
    return frozenset({"ok"})
