"""Pairs to calibrate an INT8 model with, and what a model scores them."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from tests.support import tiny_bert
from xuankan_worker.engines.runtime import open_session
from xuankan_worker.releases.quantize import Pair


def make_pairs(count: int, seed: int) -> list[Pair]:
    batch = tiny_bert.random_batch(count, seed=seed)
    rows = zip(batch.input_ids, batch.lengths, batch.first_lengths, strict=True)
    return [Pair(ids[:length], int(first)) for ids, length, first in rows]


def scores(model: onnx.ModelProto, pairs: list[Pair]) -> NDArray[np.float32]:
    session = open_session(model.SerializeToString())
    feeds = (
        {
            "input_ids": pair.input_ids[None],
            "lengths": np.array([len(pair.input_ids)], np.int32),
            "first_lengths": np.array([pair.first_length], np.int32),
        }
        for pair in pairs
    )
    return np.array([session.run(["scores"], feed)[0][0] for feed in feeds], dtype=np.float32)
