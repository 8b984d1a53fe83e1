"""From a manuscript to a request: tokens and candidates. Plain CPU work of a few milliseconds."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from xuankan.candidates import Filters, FirstStage, select
from xuankan.catalogue import Catalogue
from xuankan.client.options import RankingOptions
from xuankan.errors import ManuscriptError
from xuankan.manuscript import Manuscript, readability
from xuankan.protocol.template import Template
from xuankan.protocol.wire import MAX_TEXT, MAX_WARNINGS, Request


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
        options: RankingOptions,
        *,
        request_id: str,
        reply: str,
        now_ms: float,
        traceparent: str | None = None,
    ) -> Request:
        """Tokenize a manuscript and choose the journals to score. The deadline is set when it is submitted.

        `now_ms` is Unix time on our clock; `traceparent` is the span that submits it. The lane is
        `interactive` if the options name none.

        Raises:
            ManuscriptError: it cannot be ranked.
            UnknownJournal, FilterError: no such journal, or none is left.
        """
        warnings = list(readability(manuscript))
        encoded = self.template.encode_manuscript(manuscript.title, manuscript.abstract, manuscript.keywords)
        if not len(encoded.ids):
            raise ManuscriptError("title", "the tokenizer finds no words in the title and abstract")
        if encoded.total > 2 * len(encoded.ids):
            warnings.append(
                f"only the first {len(encoded.ids)} of {encoded.total} tokens are read: "
                "send only the abstract, not the whole text"
            )
        chosen = options.candidates
        count, named = (chosen, None) if isinstance(chosen, int) else (len(chosen), chosen)
        text = " ".join((manuscript.abstract, *manuscript.keywords))
        scores = self.first_stage.scores(manuscript.title, text)
        selection = select(scores, self.catalogue, count, options.filters, named)
        warnings.extend(selection.warnings)
        return Request(
            id=request_id,
            lane=options.lane or "interactive",
            fingerprint=self.template.fingerprint,
            catalogue=self.catalogue.version,
            tokens=encoded.ids,
            candidates=selection.indices.astype(np.uint32),
            first_stage=selection.scores.astype(np.float32),
            top_k=options.top_k,
            enqueued_ms=int(now_ms),
            reply=reply,
            traceparent=traceparent,
            warnings=tuple(warning[:MAX_TEXT] for warning in warnings[:MAX_WARNINGS]),
            cited=self._cited(manuscript, selection.indices),
        )

    def _cited(self, manuscript: Manuscript, candidates: NDArray[np.integer]) -> NDArray[np.uint32] | None:
        if (cited := manuscript.cited) is None:
            return None
        counts = [cited.get(self.catalogue[int(index)].id, 0) for index in candidates]
        return np.array(counts, dtype=np.uint32)


def digest(manuscript: Manuscript, options: RankingOptions, request_id: str) -> str:
    """The same for every submission that asks the same under this id, whatever its lane and deadline.

    It depends on the id, so that equal manuscripts under different ids do not look alike.
    """
    candidates = options.candidates
    asked = (
        request_id,
        *(manuscript.title, manuscript.abstract, manuscript.keywords),
        None if manuscript.cited is None else sorted(manuscript.cited.items()),
        options.top_k,
        candidates if isinstance(candidates, int) else sorted(candidates),
        asdict(options.filters or Filters()),
    )
    return blake2b(json.dumps(asked, default=list).encode(), digest_size=16).hexdigest()
