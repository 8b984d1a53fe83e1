"""What the worker itself costs: real requests through a real server, an engine that only takes time.

    python -m tests.benchmarks.worker_cost --batch-ms 1.6

queues bulk requests of test papers x 64 journals, then serves them with two contexts of two slots whose
batches take a fixed time, and prints pairs per second, how much of a core the worker took, and how long
contexts had nothing to do. With --idle, one request at a time is ranked instead, and what its trip takes
beside the engine is printed. With --profile, the functions of the event loop's thread that took longest.

With --encoder the package's release is served instead: what its encoder says of these papers is computed
once, on the CPU, and given out again by batches that take a fixed time.
"""

from __future__ import annotations

import asyncio
import cProfile
import math
import pstats
import resource
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
from numpy.typing import NDArray
from tests.support.server import ValkeyProcess
from tests.support.simulation import unseen_papers

from xuankan.candidates import FirstStage
from xuankan.catalogue import Catalogue
from xuankan.protocol import scripts
from xuankan.protocol.keys import Keys, Lane
from xuankan.protocol.template import Template, default_directory
from xuankan.protocol.wire import Request
from xuankan.transport.client import open_client
from xuankan_worker.config import WorkerConfig
from xuankan_worker.engines.base import Encoded, EncoderInfo, EngineInfo, TokenBatch
from xuankan_worker.execution.evidence_rows import manuscript_rows
from xuankan_worker.execution.served_model import ServedModel, load_served_model
from xuankan_worker.worker import Worker

BUCKETS = (192, 224, 256, 272, 288, 304, 320, 336, 368, 384, 416, 448, 480, 512)
JOURNALS = 64
PAPERS = 128
KEYS = Keys("cost")


class TimedEngine:
    """Contexts whose batches take `batch_s` each, one after the other.

    With `encoder`, it has that encoder and no cross-encoder; what that says of a manuscript is in `said`, by
    the manuscript's tokens.
    """

    def __init__(
        self,
        batch_s: float,
        rows: int,
        contexts: int = 2,
        depth: int = 2,
        encoder: EncoderInfo | None = None,
    ) -> None:
        self.said: dict[bytes, Encoded] = {}
        self.batch_s = batch_s
        self.free_at_s = [0.0] * contexts
        self.idle_s: list[float] = []
        self._locks = [threading.Lock() for _ in range(contexts)]
        self.info = EngineInfo(
            name="timed",
            device="none",
            buckets=BUCKETS if encoder is None else (),
            max_batch=rows,
            contexts=contexts,
            vocabulary_size=Template.default().tokenizer.get_vocab_size(),
            fingerprint="timed",
            depth=depth,
            shapes=tuple((bucket, rows) for bucket in BUCKETS) if encoder is None else (),
            encoder=encoder,
        )

    def open_slot(self, index: int) -> TimedSlot:
        return TimedSlot(self, index % self.info.contexts)

    def run(self, context: int) -> None:
        with self._locks[context]:
            now_s, free_s = time.monotonic(), self.free_at_s[context]
            if free_s:
                self.idle_s.append(max(0.0, now_s - free_s))
            end_s = self.free_at_s[context] = max(now_s, free_s) + self.batch_s
        if (wait_s := end_s - time.monotonic()) > 0:
            time.sleep(wait_s)

    def close(self) -> None:
        pass


class TimedSlot:
    def __init__(self, engine: TimedEngine, context: int) -> None:
        self._engine, self._context = engine, context

    def score(self, batch: TokenBatch) -> NDArray[np.float32]:
        self._engine.run(self._context)
        return batch.lengths.astype(np.float32)

    def encode(self, batch: TokenBatch) -> Encoded:
        self._engine.run(self._context)
        rows = [
            self._engine.said[ids[:length].tobytes()]
            for ids, length in zip(batch.input_ids, batch.lengths, strict=True)
        ]
        return Encoded(*(np.concatenate([getattr(row, part) for row in rows]) for part in Encoded.__slots__))

    def close(self) -> None:
        pass


def make_requests(template: Template, count: int, lane: Lane, reply: str | None) -> list[Request]:
    catalogue, papers = Catalogue.default(), unseen_papers(PAPERS)
    first_stage = FirstStage.default().for_catalogue(catalogue)
    made: list[Request] = []
    for number in range(count):
        if number < len(papers):
            title, abstract = papers[number]
            scores = first_stage.scores(title, abstract)
            best = np.argsort(-scores, kind="stable")[:JOURNALS]
            made.append(
                Request(
                    id=f"cost-{number}",
                    lane=lane,
                    fingerprint=template.fingerprint,
                    catalogue=catalogue.version,
                    tokens=template.encode_manuscript(title, abstract).ids,
                    candidates=best.astype(np.uint32),
                    first_stage=scores[best].astype(np.float32),
                    top_k=10,
                    enqueued_ms=round(time.time() * 1000),
                    reply=reply,
                )
            )
        else:
            again = made[number % len(papers)]
            made.append(
                Request(
                    **{name: getattr(again, name) for name in again.__slots__ if name != "id"},
                    id=f"cost-{number}",
                )
            )
    return made


def serve_encoder(batch_s: float, rows: int) -> tuple[ServedModel, TimedEngine]:
    """The package's release, with what its encoder says of the papers worked out before."""
    real = load_served_model("onnx", None, None, rows)
    info = real.engine.info.encoder
    assert info is not None
    bucket = info.buckets[-1]
    engine = TimedEngine(batch_s, rows, encoder=replace(info, buckets=(bucket,), shapes=((bucket, rows),)))
    slot = real.engine.open_slot(0)
    for title, abstract in unseen_papers(PAPERS):
        batch = manuscript_rows(bucket, [real.template.encode_manuscript(title, abstract).ids], real.template)
        engine.said[batch.input_ids[0, : batch.lengths[0]].tobytes()] = slot.encode(batch)
    slot.close()
    real.engine.close()
    return replace(real, engine=engine), engine


async def serve_bulk(url: str, served: ServedModel, engine: TimedEngine, count: int, profile: bool) -> None:
    client = open_client(url)
    for asked in make_requests(served.template, count, "bulk", "producer"):
        await scripts.submit(client, KEYS, asked.id, asked.lane, asked.reply, asked.encode())
    await client.aclose()
    profiler = cProfile.Profile()
    config = WorkerConfig(url, "worker", KEYS, burst=True, max_batch=engine.info.max_batch)
    async with Worker(config, served) as worker:
        before, cpu_s, started_s = (
            resource.getrusage(resource.RUSAGE_SELF),
            time.thread_time(),
            time.monotonic(),
        )
        if profile:
            profiler.enable()
        await worker.wait()
        profiler.disable()
        elapsed_s, cpu_s = time.monotonic() - started_s, time.thread_time() - cpu_s
        after = resource.getrusage(resource.RUSAGE_SELF)
    process_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    batches = len(engine.idle_s) + engine.info.contexts
    rows = count * (1 if engine.info.encoder else JOURNALS)
    idle_s = np.array(engine.idle_s)
    click.echo(
        f"{rows / elapsed_s:,.0f} rows/s, {count / elapsed_s:.0f} requests/s; "
        f"process {process_s / elapsed_s:.1%} of a core, event loop {cpu_s / elapsed_s:.1%}; "
        f"{process_s / count * 1e3:.2f} ms a request, {process_s / batches * 1e6:.0f} us a batch; "
        f"context idle {idle_s.sum() / elapsed_s / engine.info.contexts:.1%}, gaps "
        f"p50 {np.percentile(idle_s, 50) * 1e6:.0f} p95 {np.percentile(idle_s, 95) * 1e6:.0f} us"
    )
    if profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(35)


async def serve_one_by_one(url: str, served: ServedModel, engine: TimedEngine, count: int) -> None:
    """Time from handing a request to the server to having its result, beside what the engine takes."""
    client = open_client(url, block_s=5.0)
    command = cast(Any, client).execute_command
    least_s = engine.batch_s * (
        1 if engine.info.encoder else math.ceil(JOURNALS / engine.info.max_batch / engine.info.contexts)
    )
    taken_s: list[float] = []
    async with Worker(WorkerConfig(url, "worker", KEYS, max_batch=engine.info.max_batch), served):
        for asked in make_requests(served.template, count, "interactive", "producer"):
            started_s = time.monotonic()
            await scripts.submit(client, KEYS, asked.id, asked.lane, asked.reply, asked.encode())
            await command("BLPOP", KEYS.reply("producer"), 5)
            await command("HGET", KEYS.result(asked.id), "body")
            taken_s.append(time.monotonic() - started_s - least_s)
            await asyncio.sleep(0.005)
    await client.aclose()
    p50, p95 = np.percentile(taken_s, [50, 95]) * 1e3
    click.echo(
        f"{count} requests one by one: beside the engine's {least_s * 1e3:.1f} ms, "
        f"p50 {p50:.2f}, p95 {p95:.2f} ms"
    )


@click.command()
@click.option("--requests", default=3000, show_default=True)
@click.option("--batch-ms", default=1.6, show_default=True, help="What a batch takes in a context.")
@click.option("--rows", default=16, show_default=True, help="Rows of a batch.")
@click.option("--idle", is_flag=True, help="One request at a time.")
@click.option("--encoder", is_flag=True, help="The package's release in place of a cross-encoder.")
@click.option("--profile", is_flag=True)
def main(requests: int, batch_ms: float, rows: int, idle: bool, encoder: bool, profile: bool) -> None:
    """Measure."""
    if encoder:
        served, engine = serve_encoder(batch_ms / 1000, rows)
    else:
        template = Template.build((default_directory() / "tokenizer.json").read_bytes(), 384, 125)
        engine = TimedEngine(batch_ms / 1000, rows)
        served = ServedModel(engine, template, Catalogue.default(), "release", 1.0, 1.0)
    with tempfile.TemporaryDirectory() as directory:
        server = ValkeyProcess(Path(directory))
        server.start()
        try:
            if idle:
                asyncio.run(serve_one_by_one(server.url, served, engine, requests))
            else:
                asyncio.run(serve_bulk(server.url, served, engine, requests, profile))
        finally:
            server.kill()


if __name__ == "__main__":
    main()
