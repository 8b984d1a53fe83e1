"""A slot: a place for one batch, with pinned memory of its own and an event that says when it is done."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from xuankan.errors import DeviceLost, EngineError
from xuankan_worker.engines.base import Encoded, EngineInfo, TokenBatch
from xuankan_worker.engines.checks import check_batch
from xuankan_worker.engines.tensorrt.context import StreamContext
from xuankan_worker.engines.tensorrt.cuda import CopyTimer, Cuda, Event, PinnedBlock
from xuankan_worker.engines.tensorrt.layout import Layout, PlanProfile, PlanProfiles, fill


class TensorRTSlot:
    """Runs one batch after the other in a context; made by `TensorRTEngine.open_slot`.

    Attributes:
        copy_s: what copies to the device and back have taken since the slot was made.

    Raises:
        EngineError: there is no memory for it.
    """

    def __init__(
        self, cuda: Cuda, context: StreamContext, info: EngineInfo, profiles: PlanProfiles, layout: Layout
    ) -> None:
        self._context = context
        self._info = info
        self._profiles = profiles
        self._closed = False
        self.copy_s = 0.0
        with ExitStack() as owned:
            self._inputs = PinnedBlock(cuda, layout.input_bytes)
            owned.callback(self._inputs.close)
            self._scores = PinnedBlock(cuda, layout.score_bytes)
            owned.callback(self._scores.close)
            self._done = Event(cuda)
            owned.callback(self._done.close)
            self._copies = CopyTimer(cuda)
            owned.callback(self._copies.close)
            self._owned = owned.pop_all()

    def score(self, batch: TokenBatch) -> NDArray[np.float32]:
        """Score a batch; see `engines.base.Slot`. The caller sleeps while the device works.

        Raises:
            DeviceLost: nothing runs on the device any more.
            EngineError: the batch does not fit the engine, or running it failed.
        """
        check_batch(batch, self._info)
        return self.run(self._profiles.choose(len(batch.lengths), int(batch.lengths.max())), batch)

    def encode(self, batch: TokenBatch) -> Encoded:
        """Plans of encoders are not run yet: `EngineInfo.encoder` is None.

        Raises:
            EngineError: always.
        """
        raise EngineError(f"the TensorRT engine has no encoder for {len(batch.lengths)} rows")

    def run(self, profile: PlanProfile, batch: TokenBatch) -> NDArray[np.float32]:
        """Score a checked batch by a profile that takes it.

        Raises:
            As `score`.
        """
        if self._closed:
            raise EngineError("the slot is closed")
        used = len(batch.lengths)
        rows, tokens = profile.rows, profile.tokens
        if not profile.static:
            rows, tokens = used, int(batch.lengths.max())
        fill(self._inputs.view(), batch, rows, tokens)
        try:
            memory = (self._inputs.address, self._scores.address)
            self._context.submit(profile, rows, tokens, *memory, self._done, self._copies)
        except DeviceLost:
            raise
        except EngineError:
            self._done.wait()  # what was enqueued before the failure still reads this slot's memory
            raise
        self._done.wait()
        self.copy_s += self._copies.seconds()
        scores = self._scores.view()[: 4 * used].view(np.float32).copy()
        if not (finite := np.isfinite(scores)).all():
            raise EngineError(f"row {np.argmin(finite)}: the model gave no finite score")
        return scores

    def close(self) -> None:
        """Free the slot's memory; idempotent."""
        self._closed = True
        self._owned.close()
