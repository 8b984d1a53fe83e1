"""From a manuscript to a request: tokens and candidates. Plain CPU work of a few milliseconds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Final, TypedDict

import numpy as np

from xuankan.candidates import Filters, FirstStage, select
from xuankan.catalogue import Catalogue
from xuankan.client.limits import ON_FULL, OnFull
from xuankan.errors import InputError, ManuscriptError
from xuankan.manuscript import Manuscript, readability
from xuankan.protocol.keys import LANES, Lane
from xuankan.protocol.template import Template
from xuankan.protocol.wire import MAX_CANDIDATES, MAX_TEXT, MAX_WARNINGS, Request


class Options(TypedDict, total=False):
    """How a manuscript is ranked.

    Attributes:
        top_k: how many journals to return at most; 10 if not given.
        candidates: how many journals the model scores, the first stage's best, 100 if not given; or the ids
            of those to score.
        filters: facts that a journal must have to be scored.
        lane: `interactive` if a person waits, else `bulk`.
        deadline_s: seconds after which the ranking is of no use: a wait ends with RequestExpired, and no
            worker spends time on it any more.
        on_full: what to do while the queue is full (see `Limits`): `wait`, the default, until there is room
            or the deadline passes, or `raise` QueueFull at once.
    """

    top_k: int
    candidates: int | Sequence[str]
    filters: Filters | None
    lane: Lane
    deadline_s: float | None
    on_full: OnFull


_OPTIONS: Final = frozenset(Options.__annotations__)


@dataclass(frozen=True, slots=True)
class Preparer:
    """A template, a catalogue and a first stage for it. Thread-safe."""

    template: Template
    catalogue: Catalogue
    first_stage: FirstStage

    @classmethod
    def load(
        cls, template: Template | None, catalogue: Catalogue | None, first_stage: FirstStage | None
    ) -> Preparer:
        """Take what is given and the package's own for the rest. Up to a second, once per process.

        Raises:
            ReleaseError, CatalogueError: a file of the package cannot be read.
        """
        catalogue = catalogue or Catalogue.default()
        first_stage = (first_stage or FirstStage.default()).for_catalogue(catalogue)
        return cls(template or Template.default(), catalogue, first_stage)

    def request(
        self,
        manuscript: Manuscript,
        options: Options,
        *,
        request_id: str,
        reply: str,
        now_ms: float,
        server_now_ms: float,
        traceparent: str | None = None,
    ) -> Request:
        """Tokenize a manuscript and choose the journals to score.

        `now_ms` and `server_now_ms` are Unix time on our clock and on the server's; `traceparent` is the span
        that submits it.

        Raises:
            ManuscriptError: it cannot be ranked.
            UnknownJournal, FilterError: no such journal, or none is left.
            InputError: an option is out of its range.
        """
        top_k, lane, deadline_s = _checked(options)
        warnings = list(readability(manuscript))
        encoded = self.template.encode_manuscript(manuscript.title, manuscript.abstract, manuscript.keywords)
        if not len(encoded.ids):
            raise ManuscriptError("title", "the tokenizer finds no words in the title and abstract")
        if encoded.total > 2 * len(encoded.ids):
            warnings.append(
                f"only the first {len(encoded.ids)} of {encoded.total} tokens are read: "
                "send only the abstract, not the whole text"
            )
        count, named = _split(options.get("candidates", 100))
        text = " ".join((manuscript.abstract, *manuscript.keywords))
        scores = self.first_stage.scores(manuscript.title, text)
        selection = select(scores, self.catalogue, count, options.get("filters"), named)
        warnings.extend(selection.warnings)
        return Request(
            id=request_id,
            lane=lane,
            fingerprint=self.template.fingerprint,
            catalogue=self.catalogue.version,
            tokens=encoded.ids,
            candidates=selection.indices.astype(np.uint32),
            first_stage=selection.scores.astype(np.float32),
            top_k=top_k,
            enqueued_ms=int(now_ms),
            deadline_ms=None if deadline_s is None else int(server_now_ms + deadline_s * 1000),
            reply=reply,
            traceparent=traceparent,
            warnings=tuple(warning[:MAX_TEXT] for warning in warnings[:MAX_WARNINGS]),
        )


def digest(manuscript: Manuscript, options: Options, request_id: str) -> str:
    """The same for every submission that asks the same under this id, whatever its lane and deadline.

    It depends on the id, so that equal manuscripts under different ids do not look alike.
    """
    candidates = options.get("candidates", 100)
    asked = (
        request_id,
        *(manuscript.title, manuscript.abstract, manuscript.keywords),
        options.get("top_k", 10),
        candidates if isinstance(candidates, int) else sorted(candidates),
        asdict(options.get("filters") or Filters()),
    )
    return blake2b(json.dumps(asked, default=list).encode(), digest_size=16).hexdigest()


def _checked(options: Options) -> tuple[int, Lane, float | None]:
    if unknown := set(options) - _OPTIONS:
        raise TypeError(
            f"unknown option {', '.join(sorted(unknown))}; known are {', '.join(sorted(_OPTIONS))}"
        )
    top_k, lane = options.get("top_k", 10), options.get("lane", "interactive")
    deadline_s = options.get("deadline_s")
    if not 1 <= top_k <= MAX_CANDIDATES:
        raise InputError("top_k", f"must be 1 to {MAX_CANDIDATES:,} journals, not {top_k}")
    if lane not in LANES:
        raise InputError("lane", f"must be one of {', '.join(LANES)}, not {lane!r}")
    if deadline_s is not None and not 0 < deadline_s < 1e9:
        raise InputError("deadline_s", f"must be greater than 0 seconds, not {deadline_s:g}")
    if (on_full := options.get("on_full", "wait")) not in ON_FULL:
        raise InputError("on_full", f"must be one of {', '.join(ON_FULL)}, not {on_full!r}")
    return top_k, lane, deadline_s


def _split(candidates: int | Sequence[str]) -> tuple[int, Sequence[str] | None]:
    if isinstance(candidates, str):
        raise InputError("candidates", f"must be a number or a list of journal ids, not {candidates!r}")
    count = candidates if isinstance(candidates, int) else len(candidates)
    if not 1 <= count <= MAX_CANDIDATES:
        raise InputError("candidates", f"must be 1 to {MAX_CANDIDATES:,} journals, not {count}")
    return count, None if isinstance(candidates, int) else candidates
