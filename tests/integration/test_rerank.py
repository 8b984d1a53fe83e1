"""`xuankan rerank` on a real server: right, in order, and once each, whatever is killed."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # pyright: ignore[reportMissingTypeStubs]  # it has none
import pytest

from tests.support.engine import ScriptedEngine
from tests.support.portal import manuscript, producer, ranked_ids
from tests.support.secured import secured_server
from tests.support.server import ValkeyProcess
from tests.support.world import KEYS, Queue, catalogue, config, running, served_model
from xuankan import Catalogue, Filters, RankingOptions
from xuankan.backlog.rerank import RerankReport
from xuankan.backlog.rerank import rerank as rerank_all
from xuankan.backlog.sources import Backlog, Shard
from xuankan.errors import FilterError, RequestIncompatible
from xuankan.protocol.template import Template
from xuankan_worker.worker import Worker

CANDIDATES = 5


@pytest.fixture(scope="module")
def catalogue_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("catalogue") / "catalogue.json.gz"
    catalogue().save(path)
    return path


def write_backlog(path: Path, count: int) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            one = manuscript(number)
            row = {"id": f"m{number}", "title": one.title, "abstract": one.abstract}
            file.write(json.dumps(row) + "\n")
    return path


class Command:
    """`xuankan rerank` with the options of this small world."""

    def __init__(self, url: str, catalogue_file: Path) -> None:
        self._end = (
            *("--redis", url, "--namespace", KEYS.namespace, "--catalogue", str(catalogue_file)),
            *("--candidates", str(CANDIDATES), "--top-k", "3"),
        )

    async def start(
        self, *arguments: str | Path, largest_file: int | None = None
    ) -> asyncio.subprocess.Process:
        def limit() -> None:
            if largest_file is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "xuankan.cli.main", "rerank", *map(str, arguments), *self._end),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=limit,
        )

    async def run(self, *arguments: str | Path, largest_file: int | None = None) -> tuple[int, str]:
        """Exit code and what it said."""
        return await ended(await self.start(*arguments, largest_file=largest_file))


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str]:
    out, err = await asyncio.wait_for(process.communicate(), 90)
    assert not out
    assert b"Traceback" not in err, err.decode()
    assert process.returncode is not None
    return process.returncode, err.decode()


@pytest.fixture
def rerank(server_url: str, queue: Queue, catalogue_file: Path) -> Command:
    del queue  # empty
    return Command(server_url, catalogue_file)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def names(directory: Path, pattern: str) -> list[str]:
    return sorted(path.name for path in directory.glob(pattern))


def tear(part: Path) -> None:
    """Leave what a kill in the middle of a write leaves."""
    with part.open("ab") as file:
        file.write(b"half a li")


def state(out: Path) -> dict[str, Any]:
    return json.loads(Path(f"{out}.job.json").read_bytes())


async def soon(holds: Callable[[], bool]) -> None:
    """Wait until a process, which takes a while to start on a busy machine, has done something."""
    async with asyncio.timeout(90):
        while not holds():  # noqa: ASYNC110  # it does not tell
            await asyncio.sleep(0.01)


async def rows_reached(out: Path, rows: int) -> None:
    await soon(lambda: Path(f"{out}.job.json").exists() and state(out)["progress"]["rows"] >= rows)


def assert_complete(ranked: Sequence[dict[str, Any]], numbers: Sequence[int]) -> None:
    """Every row once, in order, with the ranking that the model gives."""
    assert [row["row"] for row in ranked] == [number + 1 for number in numbers]
    for row, number in zip(ranked, numbers, strict=True):
        assert row["id"] == f"m{number}"
        wanted = ranked_ids(manuscript(number), candidates=CANDIDATES, top_k=3)
        assert [place["id"] for place in row["journals"]] == wanted


def scored_rows(engine: ScriptedEngine) -> int:
    return sum(rows for rows, _ in engine.batches)


async def rank(url: str, backlog: Path, out: Path, shard: str = "0/1", **changes: Any) -> RerankReport:
    """What the command does, without a process for it."""
    options = RankingOptions(candidates=CANDIDATES, top_k=3, filters=changes.pop("filters", None))
    async with producer(url, **changes) as portal:
        with Backlog.open([backlog]) as rows:
            return await rerank_all(portal, rows, out, options, shard=Shard.parse(shard), in_flight=16)


async def test_every_format_of_output_holds_the_same(server_url: str, queue: Queue, tmp_path: Path) -> None:
    backlog = write_backlog(tmp_path / "backlog.jsonl", 40)
    async with running(server_url, ScriptedEngine()):
        for suffix in ("jsonl", "csv", "parquet"):
            report = await rank(server_url, backlog, tmp_path / f"ranked.{suffix}")
            assert (report.progress.ranked, report.progress.releases) == (40, {"release-1": 40})
        left_ms = [int(await queue.command("PTTL", key)) for key in await queue.command("KEYS", "*result*")]
        assert max(left_ms) <= 60_000  # what is on disk does not stay on the server for an hour
    ranked = lines(tmp_path / "ranked.jsonl")
    assert_complete(ranked, range(40))
    assert ranked[0]["journals"][0]["publisher"] == "Example Press"
    reader: Any = pq
    assert reader.read_table(tmp_path / "ranked.parquet").to_pylist() == ranked
    with (tmp_path / "ranked.csv").open(encoding="utf-8-sig", newline="") as file:
        flat = list(csv.DictReader(file))
    assert [(row["row"], row["id"], row["rank"], row["journal"]) for row in flat] == [
        (str(row["row"]), row["id"], str(place["rank"]), place["id"])
        for row in ranked
        for place in row["journals"]
    ]
    assert names(tmp_path, "ranked*") == sorted(
        f"ranked.{suffix}{end}" for suffix in ("jsonl", "csv", "parquet") for end in ("", ".job.json")
    )


async def test_bad_rows_go_aside_with_the_reason_and_can_be_repaired(
    server_url: str, queue: Queue, tmp_path: Path
) -> None:
    del queue  # empty
    backlog, out = write_backlog(tmp_path / "backlog.jsonl", 3), tmp_path / "ranked.jsonl"
    spoiled = int(Template.default().encode_manuscript("zebra", "").ids[0])
    with backlog.open("a", encoding="utf-8") as file:
        file.write(
            '{broken\n{"id": "zh", "title": "关于图论的研究与应用"}\n{"abstract": 5}\n{"title": "A zebra"}\n'
        )
    async with running(server_url, ScriptedEngine(spoiled=spoiled)):
        report = await rank(server_url, backlog, out)
        assert (report.progress.ranked, report.progress.bad) == (3, 4)
        assert_complete(lines(out), range(3))
        bad = lines(report.bad_path)
        assert [(row["row"], row["line"], row["code"]) for row in bad] == [
            (4, 4, "unreadable"),
            (5, 5, "manuscript"),
            (6, 6, "unreadable"),
            (7, 7, "engine_error"),
        ]
        assert "not JSON" in bad[0]["reason"]
        assert bad[0]["text"] == "{broken\n"
        assert "Latin" in bad[1]["reason"]
        assert (bad[1]["id"], bad[1]["title"]) == ("zh", "关于图论的研究与应用")
        repaired = tmp_path / "repaired.jsonl"
        repaired.write_text(json.dumps({**bad[1], "title": "On graph theory and its uses"}), "utf-8")
        await rank(server_url, repaired, tmp_path / "again.jsonl")
    assert [row["id"] for row in lines(tmp_path / "again.jsonl")] == ["zh"]


async def test_killed_again_and_again_it_scores_and_writes_every_row_once(
    rerank: Command, server_url: str, tmp_path: Path
) -> None:
    backlog, out = write_backlog(tmp_path / "backlog.jsonl", 300), tmp_path / "ranked.jsonl"
    engine, reached = ScriptedEngine(row_s=0.004), 0
    async with running(server_url, engine):
        for _ in range(2):
            process = await rerank.start(backlog, "--out", out, "--in-flight", "32")
            await rows_reached(out, reached + 1)
            await asyncio.sleep(0.3)  # into the time between two commits
            process.send_signal(signal.SIGKILL)
            await process.communicate()
            reached = state(out)["progress"]["rows"]
            assert reached < 300
        tear(tmp_path / "ranked.jsonl.part")
        code, said = await rerank.run(backlog, "--out", out)
        assert code == 0, said
        assert scored_rows(engine) == 300 * CANDIDATES
        code, said = await rerank.run(backlog, "--out", out)
        assert (code, "is already complete: 300 rankings" in said) == (0, True)
    assert scored_rows(engine) == 300 * CANDIDATES
    assert_complete(lines(out), range(300))
    assert state(out)["progress"]["ranked"] == 300


async def test_stopped_it_says_how_far_it_came_and_goes_on(
    rerank: Command, server_url: str, tmp_path: Path
) -> None:
    backlog, out = write_backlog(tmp_path / "backlog.jsonl", 100), tmp_path / "ranked.jsonl"
    engine = ScriptedEngine()
    async with running(server_url, engine):
        engine.gate.clear()
        process = await rerank.start(backlog, "--out", out, "--in-flight", "16")
        await soon(lambda: bool(engine.batches))
        process.send_signal(signal.SIGTERM)
        code, said = await ended(process)
        assert code == 130
        assert "stopped after 0 of 100 rows; run the same command to resume from there" in said
        engine.gate.set()
        code, said = await rerank.run(backlog, "--out", out)
        assert code == 0, said
    assert_complete(lines(out), range(100))
    assert scored_rows(engine) == 100 * CANDIDATES


async def test_a_restart_of_the_server_is_ridden_through(own_server: ValkeyProcess, tmp_path: Path) -> None:
    own_server.start()
    backlog, out = write_backlog(tmp_path / "backlog.jsonl", 200), tmp_path / "ranked.jsonl"
    async with running(own_server.url, ScriptedEngine(row_s=0.002)):
        job = asyncio.create_task(rank(own_server.url, backlog, out, server_timeout_s=60.0))
        await rows_reached(out, 1)
        await asyncio.to_thread(own_server.kill)
        await asyncio.to_thread(own_server.start)
        await job
    assert_complete(lines(out), range(200))


async def test_shards_make_the_whole(server_url: str, queue: Queue, tmp_path: Path) -> None:
    del queue  # empty
    backlog = write_backlog(tmp_path / "backlog.jsonl", 50)
    parts = [tmp_path / f"part-{index}.jsonl" for index in range(3)]
    async with running(server_url, ScriptedEngine()):
        await asyncio.gather(*(rank(server_url, backlog, part, f"{i}/3") for i, part in enumerate(parts)))
    assert_complete([row for part in parts for row in lines(part)], range(50))


async def test_filters_are_as_of_recommend(server_url: str, queue: Queue, tmp_path: Path) -> None:
    del queue  # empty
    backlog, out = write_backlog(tmp_path / "backlog.jsonl", 5), tmp_path / "ranked.jsonl"
    surgery, alchemy = Filters(subjects=("surgery",)), Filters(subjects=("alchemy",))
    async with running(server_url, ScriptedEngine()):
        await rank(server_url, backlog, out, filters=surgery)
        for number, row in enumerate(lines(out)):
            wanted = ranked_ids(manuscript(number), candidates=CANDIDATES, top_k=3, filters=surgery)
            assert [place["id"] for place in row["journals"]] == wanted
        with pytest.raises(FilterError, match="none of 40 journals passes"):
            await rank(server_url, backlog, tmp_path / "x.jsonl", filters=alchemy)
    assert not lines(tmp_path / "x.jsonl.bad.jsonl")  # it is no row's fault


async def test_the_output_of_another_job_is_not_touched(
    rerank: Command, server_url: str, tmp_path: Path
) -> None:
    backlog, out = write_backlog(tmp_path / "backlog.jsonl", 10), tmp_path / "ranked.jsonl"
    engine = ScriptedEngine()
    async with running(server_url, engine):
        engine.gate.clear()
        first = await rerank.start(backlog, "--out", out)
        await soon(lambda: bool(engine.batches))
        code, said = await rerank.run(backlog, "--out", out)
        assert (code, "another process is writing" in said) == (2, True)
        engine.gate.set()
        assert (await ended(first))[0] == 0


async def test_workers_of_another_catalogue_end_the_job_and_not_its_rows(
    server_url: str, queue: Queue, tmp_path: Path
) -> None:
    del queue  # empty
    backlog, out = write_backlog(tmp_path / "backlog.jsonl", 10), tmp_path / "ranked.jsonl"
    other = Catalogue(tuple(catalogue())[:30])
    async with running(server_url, ScriptedEngine()):
        with pytest.raises(RequestIncompatible, match="catalogue_mismatch"):
            await rank(server_url, backlog, out, catalogue=other)
        assert not lines(tmp_path / "ranked.jsonl.bad.jsonl")
    # Once the workers are as they should be, the same job is done, however short its memory is.
    fitting = replace(served_model(ScriptedEngine()), catalogue=other)
    async with Worker(config(server_url), fitting):
        report = await rank(server_url, backlog, out, catalogue=other)
    assert report.progress.ranked == 10


async def test_the_producers_user_is_all_it_needs(catalogue_file: Path, tmp_path: Path) -> None:
    backlog, out = write_backlog(tmp_path / "backlog.jsonl", 10), tmp_path / "ranked.jsonl"
    (tmp_path / "server").mkdir()
    with secured_server(tmp_path / "server") as server:
        async with running(server.url("worker"), ScriptedEngine()):
            code, said = await Command(server.url("producer"), catalogue_file).run(backlog, "--out", out)
            assert code == 0, said
        assert server.refused() == []
    assert_complete(lines(out), range(10))


async def test_a_full_disk_stops_it_and_nothing_half_written_counts(
    rerank: Command, server_url: str, tmp_path: Path
) -> None:
    backlog, out = write_backlog(tmp_path / "backlog.jsonl", 200), tmp_path / "ranked.jsonl"
    engine = ScriptedEngine(row_s=0.001)
    async with running(server_url, engine):
        code, said = await rerank.run(backlog, "--out", out, "--in-flight", "16", largest_file=50_000)
        assert code == 2
        assert "cannot be written" in said
        code, said = await rerank.run(backlog, "--out", out)
        assert code == 0, said
    assert_complete(lines(out), range(200))
    assert scored_rows(engine) == 200 * CANDIDATES


async def test_with_nothing_but_files_it_starts_a_worker_of_its_own(tmp_path: Path) -> None:
    backlog = tmp_path / "library.bib"
    backlog.write_text(
        "@article{key, title={Flow past a {C}ylinder}, abstract={We study the flow of a fluid.}}\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "XUANKAN_REDIS"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "xuankan.cli.main", "rerank", str(backlog)),
        *("--out", str(tmp_path / "ranked.csv"), "--candidates", "10"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    code, said = await ended(process)
    assert code == 0, said
    text = (tmp_path / "ranked.csv").read_text("utf-8-sig")
    assert text.count("\n") == 11
    assert "Flow past a Cylinder" in text
