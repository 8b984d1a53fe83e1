"""Work on all slots of an engine at once, for commands that measure and fit."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import TypeVar

from xuankan_worker.engines import Engine, Slot

R = TypeVar("R")


def on_slots(
    engine: Engine, numbers: Sequence[int], work: Callable[[Slot, int], R]
) -> Iterator[tuple[int, R]]:
    """Each number and what `work` gave for it, as they end; each slot has one at a time.

    Args:
        engine: loaded; its slots are opened and closed here.
        numbers: of what there is to do.
        work: called in threads.
    """
    slots: queue.SimpleQueue[Slot] = queue.SimpleQueue()
    for index in range(engine.info.slots):
        slots.put(engine.open_slot(index))

    def one(number: int) -> tuple[int, R]:
        slot = slots.get()
        try:
            return number, work(slot, number)
        finally:
            slots.put(slot)

    try:
        with ThreadPoolExecutor(engine.info.slots) as pool:
            running: list[Future[tuple[int, R]]] = [pool.submit(one, number) for number in numbers]
            try:
                for future in as_completed(running):
                    yield future.result()
            finally:
                pool.shutdown(cancel_futures=True)
    finally:
        while not slots.empty():
            slots.get().close()
