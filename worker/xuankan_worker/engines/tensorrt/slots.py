"""A slot: a place for one batch, with pinned memory of its own and an event that says when it is done."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xuankan.errors import DeviceLost, EngineError
from xuankan_worker.engines.base import Encoded, EngineInfo, TokenBatch
from xuankan_worker.engines.checks import check_batch
from xuankan_worker.engines.tensorrt.context import OpenPlan, StreamContext
from xuankan_worker.engines.tensorrt.cuda import CopyTimer, Cuda, Event, PinnedBlock
from xuankan_worker.engines.tensorrt.layout import Layout, PlanKind, PlanProfile, fill


class TensorRTSlot:
    """Runs one batch after the other in a context; made by `TensorRTEngine.open_slot`.

    Attributes:
        copy_s: what copies to the device and back have taken since the slot was made.

    Raises:
        EngineError: there is no memory for it.
    """

    def __init__(
        self,
        cuda: Cuda,
        context: StreamContext,
        info: EngineInfo,
        plans: Mapping[PlanKind, OpenPlan],
        layout: Layout,
    ) -> None:
        self._context = context
        self._info = info
        self._plans = plans
        self._layout = layout
        self._closed = False
        self.copy_s = 0.0
        with ExitStack() as owned:
            self._inputs = PinnedBlock(cuda, layout.input_bytes)
            owned.callback(self._inputs.close)
            self._outputs = PinnedBlock(cuda, layout.output_bytes)
            owned.callback(self._outputs.close)
            self._done = Event(cuda)
            owned.callback(self._done.close)
            self._copies = CopyTimer(cuda)
            owned.callback(self._copies.close)
            self._owned = owned.pop_all()

    def score(self, batch: TokenBatch) -> NDArray[np.float32]:
        """Score a batch; see `engines.base.Slot`. The caller sleeps while the device works.

        Raises:
            DeviceLost: nothing runs on the device any more.
            EngineError: there is no cross-encoder, the batch does not fit it, or running it failed.
        """
        check_batch(batch, self._info)
        (scores,) = self._run("cross_encoder", batch)
        if not (finite := np.isfinite(scores[:, 0])).all():
            raise EngineError(f"row {np.argmin(finite)}: the model gave no finite score")
        return scores[:, 0]

    def encode(self, batch: TokenBatch) -> Encoded:
        """Read manuscripts; see `engines.base.Slot`. The caller sleeps while the device works.

        Raises:
            DeviceLost: nothing runs on the device any more.
            EngineError: there is no encoder, the batch does not fit it, or running it failed.
        """
        if self._info.encoder is None:
            raise EngineError("the release has no encoder")
        check_batch(batch, self._info, self._info.encoder)
        return Encoded(*self._run("encoder", batch))

    def _run(self, kind: PlanKind, batch: TokenBatch) -> tuple[NDArray[Any], ...]:
        profile = self._plans[kind].profiles.choose(len(batch.lengths), int(batch.lengths.max()))
        return self.run(profile, batch)

    def run(self, profile: PlanProfile, batch: TokenBatch) -> tuple[NDArray[Any], ...]:
        """The outputs of a checked batch by a profile that takes it, [rows, columns] each.

        Raises:
            DeviceLost: nothing runs on the device any more.
            EngineError: running it failed.
        """
        if self._closed:
            raise EngineError("the slot is closed")
        used = len(batch.lengths)
        rows, tokens = profile.rows, profile.tokens
        if not profile.static:
            rows, tokens = used, int(batch.lengths.max())
        fill(self._inputs.view(), batch, rows, tokens)
        try:
            memory = (self._inputs.address, self._outputs.address)
            self._context.submit(profile, rows, tokens, *memory, self._done, self._copies)
        except DeviceLost:
            raise
        except EngineError:
            self._done.wait()  # what was enqueued before the failure still reads this slot's memory
            raise
        self._done.wait()
        self.copy_s += self._copies.seconds()
        return self._layout.read(self._outputs.view(), profile.kind, rows, used)

    def close(self) -> None:
        """Free the slot's memory; idempotent."""
        self._closed = True
        self._owned.close()
