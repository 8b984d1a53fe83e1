"""A worker with a release of encoder, corpus and evidence cross-encoder: the whole trip, on real graphs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.evidence_release import (
    CATALOGUE,
    FUSION,
    SILENT,
    TRAINED,
    PlainRanker,
    papers,
    write_release,
)
from tests.support.world import Queue, catalogue, config, request
from xuankan.errors import EngineError, ReleaseError
from xuankan.protocol.wire import Request, Result
from xuankan_worker.engines import Encoded, Engine, Slot, TokenBatch, open_engine
from xuankan_worker.execution.alone import rank_alone
from xuankan_worker.execution.served_model import load_served_model
from xuankan_worker.manifest import MODEL, Manifest
from xuankan_worker.releases.evaluate import evaluate
from xuankan_worker.releases.labelled import read_labelled
from xuankan_worker.worker import Worker


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("evidence"))


POISON = 29_999


class PoisonedSlot:
    """A slot whose encoder fails a batch with a poisoned manuscript."""

    def __init__(self, slot: Slot) -> None:
        self._slot = slot
        self.score, self.close = slot.score, slot.close

    def encode(self, batch: TokenBatch) -> Encoded:
        if POISON in batch.input_ids:
            raise EngineError("poisoned manuscript")
        return self._slot.encode(batch)


class PoisonedEngine:
    """An engine with such slots."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.info, self.close = engine.info, engine.close

    def open_slot(self, index: int) -> PoisonedSlot:
        return PoisonedSlot(self._engine.open_slot(index))


async def burst(
    url: str, queue: Queue, release: Path, requests: list[Request], *, poisoned: bool = False
) -> list[Result]:
    """Serve the requests with the release until all have ended."""
    await queue.push(*requests)
    served = load_served_model("onnx", release, release.parent / CATALOGUE, 16)
    if poisoned:
        served = replace(served, engine=PoisonedEngine(served.engine))
    try:
        async with asyncio.timeout(120), Worker(config(url, burst=True), served) as worker:
            await worker.wait()
    finally:
        served.engine.close()
    return [await queue.result(asked) for asked in requests]


async def test_rankings_are_those_of_every_row_computed_alone(
    server_url: str, queue: Queue, release: Path
) -> None:
    requests = [
        request(
            lane="bulk" if number % 2 else "interactive",
            length=10 + 23 * number,
            candidates=range(40 - 5 * number, 40) if number else range(40),
            top_k=40,
        )
        for number in range(8)
    ]
    plain = PlainRanker(release)
    for asked, result in zip(requests, await burst(server_url, queue, release, requests), strict=True):
        assert result.status == "ok", result.failure
        wanted, evidence, rows = plain.rank(asked)
        got = {place.journal: place for place in result.ranking}
        assert got.keys() == wanted.keys()
        np.testing.assert_allclose(
            [got[journal].logit for journal in wanted], list(wanted.values()), rtol=1e-4, atol=1e-4
        )
        assert [place.logit for place in result.ranking] == sorted(
            (place.logit for place in result.ranking), reverse=True
        )
        assert result.rows == rows == sum(place.cross_encoder is not None for place in result.ranking)
        assert (result.scored, rows <= FUSION.most_rows) == (len(asked.candidates), True)
        # It says nothing of manuscripts that a journal leads which the encoder does not know.
        assert result.fit is None or 0 < result.fit < 1
        for journal, found in evidence.items():
            place = got[journal]
            assert [paper.title for paper in place.evidence] == [papers()[paper][2] for paper in found]
            assert [paper.year for paper in place.evidence] == [papers()[paper][1] for paper in found]
            assert [paper.link or "" for paper in place.evidence] == [papers()[paper][3] for paper in found]
            assert (place.encoder is None) == (catalogue().index(journal) >= TRAINED)
            assert place.nearness is not None
        if SILENT in asked.candidates:
            assert got[f"journal-{SILENT}"].evidence == ()


async def test_a_request_of_journals_that_the_encoder_never_saw_is_ranked_by_their_papers(
    server_url: str, queue: Queue, release: Path
) -> None:
    asked = request(candidates=range(TRAINED, 40), top_k=4)
    (result,) = await burst(server_url, queue, release, [asked])
    wanted, _, _ = PlainRanker(release).rank(asked)
    assert [place.journal for place in result.ranking] == sorted(wanted, key=lambda j: -wanted[j])
    assert all(place.encoder is None for place in result.ranking)


async def test_a_release_may_run_no_rows_at_all(server_url: str, queue: Queue, tmp_path: Path) -> None:
    release = write_release(tmp_path, replace(FUSION, most_rows=0))
    asked = request(top_k=40)
    (result,) = await burst(server_url, queue, release, [asked])
    assert (result.status, result.rows) == ("ok", 0)
    assert all(place.cross_encoder is None for place in result.ranking)
    assert sum(place.score for place in result.ranking) == pytest.approx(1)


def without_cross_encoder(release: Path) -> Manifest:
    """Take it out of a release whose fusion asks for no rows."""
    manifest = Manifest.load(release)
    (release / MODEL).unlink()
    files = {name: digest for name, digest in manifest.files.items() if name != MODEL}
    alone = replace(manifest, architecture=None, files=files)
    alone.save(release)
    return alone


async def test_a_release_may_have_no_cross_encoder(server_url: str, queue: Queue, tmp_path: Path) -> None:
    release, asked = write_release(tmp_path, replace(FUSION, most_rows=0)), request(top_k=40)
    (before,) = await burst(server_url, queue, release, [asked])
    alone = without_cross_encoder(release)
    again = replace(asked, id=f"{asked.id}-again")
    (after,) = await burst(server_url, queue, release, [again])
    assert (after.status, after.rows, after.release) == ("ok", 0, alone.fingerprint)
    assert [(place.journal, place.logit) for place in after.ranking] == [
        (place.journal, place.logit) for place in before.ranking
    ]
    engine = open_engine("onnx", release)
    slot = engine.open_slot(0)
    with pytest.raises(EngineError, match="has no cross-encoder"):
        slot.score(TokenBatch(np.ones((1, 4), np.int32), np.array([4], np.int32), np.array([4], np.int32)))
    slot.close()
    engine.close()


def test_a_manifest_without_cross_encoder_says_how_to_rank_without(tmp_path: Path) -> None:
    release = write_release(tmp_path, replace(FUSION, most_rows=0))
    alone = without_cross_encoder(release)
    with pytest.raises(ReleaseError, match="has an encoder only, and this needs a cross-encoder"):
        _ = alone.cross_encoder
    replace(alone, fusion=FUSION).save(release)
    with pytest.raises(ReleaseError, match="most_rows is 12, but architecture is null"):
        Manifest.load(release)
    replace(alone, encoder=None, fusion=None).save(release)
    with pytest.raises(ReleaseError, match="nothing is left to rank with"):
        Manifest.load(release)


async def test_a_manuscript_that_the_encoder_fails_on_fails_alone(
    server_url: str, queue: Queue, release: Path
) -> None:
    requests = [request(candidates=range(10)) for _ in range(6)]
    requests[2] = request(tokens=[1000, POISON, 2000])
    late = request(deadline_ms=1)
    results = await burst(server_url, queue, release, [*requests, late], poisoned=True)
    assert [result.status for result in results] == ["ok", "ok", "failed", "ok", "ok", "ok", "expired"]
    failure = results[2].failure
    assert failure is not None
    assert (failure.code, failure.message) == ("engine_error", "poisoned manuscript")
    assert len(await queue.dead()) == 1


def test_a_request_ranked_alone_is_ranked_as_by_a_worker(release: Path) -> None:
    served = load_served_model("onnx", release, release.parent / CATALOGUE, 16)
    slot = served.engine.open_slot(0)
    try:
        asked = request(top_k=40)
        ranked = rank_alone(served, slot, asked)
    finally:
        slot.close()
        served.engine.close()
    wanted, _, rows = PlainRanker(release).rank(asked)
    assert ranked.rows == rows
    np.testing.assert_allclose(
        [place.logit for place in ranked.journals],
        [wanted[place.journal] for place in ranked.journals],
        rtol=1e-4,
        atol=1e-4,
    )


def test_model_evaluate_takes_both_steps_and_tells_the_rows_of_a_manuscript(release: Path) -> None:
    papers_file = Path(__file__).parents[1] / "data" / "papers.parquet"
    some = read_labelled(papers_file, ("test",), 3, 0)
    found = evaluate(some, release, "onnx", 30, lambda _what, _part: None)
    assert all(1 <= placed.rows <= FUSION.most_rows for placed in found.placed)
    assert len(found.placed) == 3
