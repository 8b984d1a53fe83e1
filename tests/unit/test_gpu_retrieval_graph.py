"""The encoder's graph for GPUs computes what the checkpoint does, and what the one for CPUs does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from tests.support import families, tiny_bert, tiny_encoder
from xuankan.errors import ReleaseError
from xuankan_worker.engines import Encoded, TokenBatch
from xuankan_worker.engines.runtime import open_session
from xuankan_worker.engines.sequence import sequence_feed
from xuankan_worker.manifest import ENCODER, file_sha256
from xuankan_worker.releases.checkpoint import Checkpoint
from xuankan_worker.releases.dequantize import read_encoder
from xuankan_worker.releases.gpu_retrieval_graph import write_gpu_retrieval_graph
from xuankan_worker.releases.quantize import METHODS, Pair, quantize
from xuankan_worker.releases.retrieval_graph import MOST_NEIGHBOURS

HALF = 0.02
"""How far FP16 may be from float64 here: logits have a standard deviation of one."""
_OUTPUTS = ("logits", "embedding", "neighbours", "nearness")


def run(model: onnx.ModelProto, batch: TokenBatch) -> Encoded:
    return Encoded(*open_session(model.SerializeToString()).run(_OUTPUTS, sequence_feed(batch)))


def batches() -> list[TokenBatch]:
    lengths = [1, 2, 17, tiny_bert.POSITIONS]
    return [tiny_bert.random_batch(16), tiny_bert.random_batch(4, seed=1, lengths=lengths)]


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_it_says_what_the_checkpoint_does(tmp_path: Path, activation: str) -> None:
    checkpoint = Checkpoint.load(tiny_encoder.write_checkpoint(tmp_path, activation), scores=False)
    model = write_gpu_retrieval_graph(checkpoint, tiny_encoder.corpus(), tiny_encoder.NEIGHBOURS)
    for batch in batches():
        tiny_encoder.assert_close(run(model, batch), tiny_encoder.expected(batch, activation), HALF)


def test_what_lies_in_the_padding_does_not_matter(tmp_path: Path) -> None:
    checkpoint = Checkpoint.load(tiny_encoder.write_checkpoint(tmp_path), scores=False)
    model = write_gpu_retrieval_graph(checkpoint, tiny_encoder.corpus(), 5)
    batch = tiny_bert.random_batch(8, lengths=[3, 5, 7, 11, 13, 17, 19, 23])
    before = run(model, batch)
    batch.input_ids[np.arange(batch.input_ids.shape[1]) >= batch.lengths[:, None]] = 11
    np.testing.assert_array_equal(run(model, batch).logits, before.logits)


def test_there_are_no_more_neighbours_than_papers_or_than_engines_give(tmp_path: Path) -> None:
    checkpoint = Checkpoint.load(tiny_encoder.write_checkpoint(tmp_path), scores=False)
    few = write_gpu_retrieval_graph(checkpoint, tiny_encoder.corpus()[:4], 9)
    assert run(few, tiny_bert.random_batch(2)).neighbours.shape == (2, 4)
    with pytest.raises(ReleaseError, match="3841 neighbours: TensorRT gives 3840 at most"):
        write_gpu_retrieval_graph(checkpoint, tiny_encoder.corpus(), MOST_NEIGHBOURS + 1)


def test_a_checkpoint_without_heads_is_refused(tmp_path: Path) -> None:
    tiny_bert.write_checkpoint(tmp_path)
    with pytest.raises(ReleaseError, match=r"no 'encoder\.classifier\.weight': it is no encoder"):
        write_gpu_retrieval_graph(Checkpoint.load(tmp_path), tiny_encoder.corpus(), 5)


def test_mpnets_heads_go_by_the_names_that_training_gives_them(tmp_path: Path) -> None:
    families.write_checkpoint(tmp_path, "mpnet")
    heads = {name: value for name, value in tiny_encoder.tensors().items() if name.startswith("encoder.")}
    about = Checkpoint.load(tmp_path).about
    own = {about.own_name(name): value for name, value in heads.items()}
    save_file({**families.tensors("mpnet"), **own}, tmp_path / "model.safetensors")
    model = write_gpu_retrieval_graph(
        Checkpoint.load(tmp_path, scores=False), tiny_encoder.corpus(), tiny_encoder.NEIGHBOURS
    )
    batch = tiny_bert.random_batch(5, tokens=families.POSITIONS)
    assert run(model, batch).logits.shape == (5, tiny_encoder.JOURNALS)


def test_the_weights_of_a_release_are_read_back(tmp_path: Path) -> None:
    release = tiny_encoder.write_release(tmp_path)
    checkpoint, corpus = read_encoder(release)
    np.testing.assert_array_equal(corpus, tiny_encoder.corpus())
    model = write_gpu_retrieval_graph(checkpoint, corpus, tiny_encoder.NEIGHBOURS)
    for batch in batches():
        tiny_encoder.assert_close(run(model, batch), tiny_encoder.expected(batch), HALF)


def test_the_weights_of_an_int8_release_are_read_back_as_they_were_rounded(tmp_path: Path) -> None:
    release = tiny_encoder.write_release(tmp_path)
    model = onnx.ModelProto.FromString((release / ENCODER).read_bytes())
    random = np.random.default_rng(3)
    pairs = [
        Pair(random.integers(0, tiny_bert.VOCABULARY, length, np.int32), length)
        for length in range(5, tiny_bert.POSITIONS)
        for _ in range(5)
    ]
    shipped = quantize(model, pairs, METHODS, lambda _what, _part: None, "logits").model
    (release / ENCODER).write_bytes(shipped.SerializeToString())
    assert file_sha256(release / ENCODER)
    checkpoint, corpus = read_encoder(release)
    assert np.abs(corpus - tiny_encoder.corpus()).max() < 0.02
    found = run(write_gpu_retrieval_graph(checkpoint, corpus, 5), batches()[0])
    wanted = tiny_encoder.expected(batches()[0])
    assert np.sqrt(np.mean((found.logits - wanted.logits) ** 2)) < 0.05 * wanted.logits.std()


def test_a_release_without_an_encoder_of_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"has no encoder\.onnx"):
        read_encoder(tiny_bert.write_release(tmp_path / "pairs"))
    release = tiny_encoder.write_release(tmp_path / "encoder")
    (release / ENCODER).write_bytes(onnx.ModelProto().SerializeToString())
    with pytest.raises(ReleaseError, match="the model has no embeddings"):
        read_encoder(release)
    (release / ENCODER).write_bytes(b"\xffnot a graph")
    with pytest.raises(ReleaseError, match="is not an ONNX model"):
        read_encoder(release)
