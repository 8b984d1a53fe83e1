"""Decides what becomes of a stream entry: work for the engine, or at once an outcome. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xuankan.errors import ProtocolError, SealError, UnsupportedVersion
from xuankan.protocol.sealing import KEYS_VARIABLE, is_sealed
from xuankan.protocol.wire import Failure, Request
from xuankan_worker.config import WorkerConfig
from xuankan_worker.dispatch.outcomes import Outcomes
from xuankan_worker.execution.served_model import ServedModel
from xuankan_worker.in_flight import Entry, EntryOutcome, InFlight

_CODES: dict[type[ProtocolError], str] = {
    UnsupportedVersion: "unsupported_version",
    SealError: "sealed_unreadable",
}


class Admission:
    """Checks requests against a release, a catalogue and a worker's limits."""

    def __init__(self, config: WorkerConfig, served: ServedModel, outcomes: Outcomes) -> None:
        self._config = config
        self._served = served
        self._outcomes = outcomes

    def admit(self, entry: Entry, now_ms: float, now_s: float) -> InFlight | EntryOutcome:
        """Decode an entry and check it. Nothing that an entry contains makes this raise.

        Args:
            entry: as read from its stream.
            now_ms: Unix time on the server's clock.
            now_s: monotonic time, from which the job's timings count.
        """
        try:
            request = Request.decode(self._config.sealer.open("request", entry.request_id or "", entry.body))
        except ProtocolError as error:
            code = _CODES.get(type(error), "undecodable")
            return self._outcomes.unreadable(entry, Failure(code, str(error)[:500], error.field), now_ms)
        if entry.request_id not in (None, request.id):
            message = (
                f"the entry belongs to request {entry.request_id!r}, but the request in it is {request.id!r}"
            )
            return self._outcomes.unreadable(entry, Failure("id_mismatch", message, "id"), now_ms)
        if self._config.sealer.required and not is_sealed(entry.body):
            message = f"this deployment accepts only sealed requests: give the producer {KEYS_VARIABLE}"
            return self._outcomes.without_ranking(
                entry, request, "invalid", Failure("not_sealed", message), now_ms
            )
        if failure := self._unscorable(request):
            return self._outcomes.without_ranking(entry, request, "invalid", failure, now_ms)
        if request.deadline_ms is not None and request.deadline_ms <= now_ms:
            late = too_late((now_ms - request.deadline_ms) / 1000)
            return self._outcomes.without_ranking(entry, request, "expired", late, now_ms)
        if entry.deliveries > self._config.max_deliveries:
            message = (
                f"delivered to workers {entry.deliveries - 1} times without finishing, "
                f"and the limit is {self._config.max_deliveries}: it may be what stops them"
            )
            return self._outcomes.without_ranking(
                entry, request, "failed", Failure("too_many_deliveries", message), now_ms
            )
        lengths, expected_rows = self._first_step(request)
        return InFlight(
            entry=entry,
            request=request,
            lengths=lengths,
            queue_ms=max(0.0, now_ms - entry.received_ms),
            read_s=now_s,
            scores=np.full(len(lengths), np.nan, dtype=np.float32),
            remaining=len(lengths),
            deadline_s=None if (by := request.deadline_ms) is None else now_s + (by - now_ms) / 1000,
            expected_rows=expected_rows,
        )

    def _first_step(self, request: Request) -> tuple[NDArray[np.int32], int]:
        """Tokens of its rows, int32 [R], and how many rows may follow."""
        if (step := self._served.encoder_step) is not None:
            most = min(len(request.candidates), step.fusion.most_rows)
            return np.array([len(request.tokens) + 2], np.int32), most
        return self._served.profiles.row_lengths(len(request.tokens), request.candidates), 0

    def _unscorable(self, request: Request) -> Failure | None:
        """Why this worker cannot score a well-formed request, if so."""
        served, config = self._served, self._config
        template, catalogue = served.template, served.catalogue
        if request.fingerprint != template.fingerprint:
            return Failure(
                "tokenizer_mismatch",
                f"the request was made with tokenizer and template {request.fingerprint!r}, this worker's "
                f"release uses {template.fingerprint!r}: install the same release on both sides",
                "fingerprint",
            )
        if request.catalogue != catalogue.version:
            return Failure(
                "catalogue_mismatch",
                f"the request indexes catalogue {request.catalogue!r}, this worker has "
                f"{catalogue.version!r}: use the same catalogue on both sides",
                "catalogue",
            )
        if (count := len(request.candidates)) > config.max_candidates:
            return Failure(
                "too_many_candidates",
                f"{count} journals to score; this worker scores at most {config.max_candidates} per request",
                "candidates",
            )
        if (journal := int(request.candidates.max())) >= len(catalogue):
            return Failure(
                "unknown_journal",
                f"journal {journal} is not in catalogue {catalogue.version}, which has {len(catalogue)}: "
                f"0 to {len(catalogue) - 1}",
                "candidates",
            )
        if (count := len(request.tokens)) > template.max_manuscript_tokens:
            return Failure(
                "too_many_tokens",
                f"{count} tokens; the template allows {template.max_manuscript_tokens}: shorten the text",
                "tokens",
            )
        vocabulary = served.engine.info.vocabulary_size
        low, high = int(request.tokens.min()), int(request.tokens.max())
        if low < 0 or high >= vocabulary:
            return Failure(
                "token_out_of_range",
                f"token {low if low < 0 else high}; the vocabulary has 0 to {vocabulary - 1}",
                "tokens",
            )
        return None


def too_late(late_s: float) -> Failure:
    """The failure of a request whose deadline passed so long ago."""
    message = f"its deadline passed {late_s * 1000:.0f} ms before it was scored"
    return Failure("deadline_exceeded", message, "deadline_ms")
