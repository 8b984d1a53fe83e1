"""What batcher and scheduler are given: asks of plain lengths, and requests that were admitted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.support.world import admission
from xuankan.protocol.keys import Lane
from xuankan.protocol.wire import Request
from xuankan_worker.in_flight import Entry, EntryKey, InFlight
from xuankan_worker.scheduling.batcher import Batch, Batcher

_ADMISSION = admission()


@dataclass(eq=False)
class Ask:
    lane: Lane
    lengths: list[int]
    number: int = 0


def queue(batcher: Batcher[Ask], ask: Ask) -> None:
    batcher.add(ask, ask.lane, np.array(ask.lengths, dtype=np.int32))


def drain(batcher: Batcher[Ask], idle: int = 1) -> list[Batch[Ask]]:
    batches: list[Batch[Ask]] = []
    while (batch := batcher.take(idle=idle)) is not None:
        batches.append(batch)
    return batches


def rows_of(batch: Batch[Ask]) -> list[tuple[Ask, int]]:
    return [(part.request, int(row)) for part in batch.slices for row in part.rows]


def job(asked: Request, deliveries: int = 1) -> InFlight:
    entry = Entry(EntryKey(asked.lane, "1-0"), asked.id, asked.encode(), deliveries)
    admitted = _ADMISSION.admit(entry, 0.0, 0.0)
    assert isinstance(admitted, InFlight)
    return admitted
