"""Importing a journal with its papers, then serving it: the packaged release and real papers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from tests.support.evidence_release import CATALOGUE, write_release
from tests.support.imported import IMPORTED, OURS, manuscripts, papers, write_tables
from tests.support.world import config
from xuankan import Manuscript, Producer
from xuankan.catalogue import Catalogue
from xuankan.catalogue.paper_tables import JournalPaper
from xuankan.cli.catalogue import catalogue as catalogue_commands
from xuankan.cli.running import given_catalogue
from xuankan.errors import ReleaseError
from xuankan.protocol.keys import Keys
from xuankan.protocol.ranked import RankedJournal
from xuankan_worker.cli.model import model as model_commands
from xuankan_worker.engines import open_engine
from xuankan_worker.execution.corpus import Corpus
from xuankan_worker.execution.served_model import load_served_model
from xuankan_worker.manifest import CORPUS, ENCODER, Manifest, default_release
from xuankan_worker.releases.embed import embed
from xuankan_worker.releases.extend import with_papers
from xuankan_worker.worker import Worker

ALL = IMPORTED * len(OURS)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with catalogue and release, made by the commands of docs/catalogue.md."""
    folder = tmp_path_factory.mktemp("imported")
    base, journals, table = write_tables(folder)
    options = ["--base", base, "--papers", table, "-o", folder / "c.json.gz", "--json"]
    told = _told(catalogue_commands, "import", journals, *options)
    assert (told["papers"], told["journals_with_papers"], told["papers_of_unknown_journals"]) == (ALL, 3, 0)
    options = ["--catalogue", folder / "c.json.gz", "--papers", table, "--out", folder / "release", "--json"]
    told = _told(model_commands, "corpus", *options, "--engine", "onnx")
    assert (told["added"], told["already_there"], told["journals"]) == (ALL, 0, 3)
    return folder


def _told(commands: click.Group, *arguments: str | Path) -> dict[str, Any]:
    run = CliRunner().invoke(commands, [str(one) for one in arguments], catch_exceptions=False)
    assert run.exit_code == 0, run.output
    return json.loads(run.stdout)


def test_the_corpus_grows_and_what_was_there_stays(imported: Path) -> None:
    catalogue = Catalogue.load(imported / "c.json.gz")
    old = Corpus.load(default_release() / CORPUS, catalogue)
    new = Corpus.load(imported / "release" / CORPUS, catalogue)
    assert len(new) == len(old) + ALL
    assert new.journal[: len(old)].tolist() == old.journal.tolist()
    assert set(new.journal[len(old) :].tolist()) == {catalogue.index(journal) for journal in OURS}
    flow = [paper["title"] for paper in papers("annals-of-flow")[:IMPORTED]]
    assert [new.titles[len(old) + i] for i in range(IMPORTED)] == flow
    assert new.link(len(old) + 3) == "https://doi.org/10.1/annals-of-flow/3"
    assert new.year[len(old) + 3] == 2018
    assert new.titles[len(old) - 1] == old.titles[len(old) - 1]
    made, base = Manifest.load(imported / "release"), Manifest.load(default_release())
    made.verify(imported / "release")
    assert made.fingerprint != base.fingerprint
    assert not list((imported / "release").glob(".*"))


async def test_a_worker_ranks_new_journals_by_their_papers_and_shows_them(
    server_url: str, imported: Path
) -> None:
    given = given_catalogue(imported / "c.json.gz")
    served = load_served_model("onnx", imported / "release", imported / "c.json.gz", 16)
    found: list[RankedJournal] = []
    try:
        async with (
            Worker(config(server_url, keys=Keys("imported")), served),
            Producer(
                server_url, namespace="imported", catalogue=given.catalogue, first_stage=given.first_stage
            ) as producer,
        ):
            for own, paper in manuscripts():
                ranking = await producer.rank(Manuscript(paper["title"], paper["abstract"]), top_k=100)
                found += [place for place in ranking.journals if place.journal == own]
    finally:
        served.engine.close()
    assert len(found) == len(manuscripts())  # by four papers each: their titles alone bring none this far
    assert all(place.encoder is None for place in found)
    shown = [(place.journal, paper) for place in found if place.rank <= 10 for paper in place.evidence]
    assert shown
    for journal, paper in shown:
        assert paper.title in {known["title"] for known in papers(journal)[:IMPORTED]}
        assert (paper.link or "").startswith(f"https://doi.org/10.1/{journal}/")


def test_papers_that_the_corpus_has_are_passed_over(imported: Path, tmp_path: Path) -> None:
    options = ["--model", str(imported / "release"), "--catalogue", str(imported / "c.json.gz")]
    options += ["--papers", str(imported / "papers.jsonl"), "--out", str(tmp_path / "again"), "--json"]
    told = _told(model_commands, "corpus", *options)
    assert (told["added"], told["already_there"]) == (0, ALL)
    with pytest.raises(ReleaseError, match="is the release itself"):
        CliRunner().invoke(
            model_commands,
            ["corpus", *options[:-3], "--out", str(imported / "release")],
            catch_exceptions=False,
        )


def test_an_interrupted_run_reads_what_it_had_made(tmp_path: Path) -> None:
    release = write_release(tmp_path / "evidence")
    engine = open_engine("onnx", release)
    template = load_served_model("onnx", release, release.parent / CATALOGUE, 16).template
    made = [JournalPaper(0, paper["title"], paper["abstract"], 2018, "") for _, paper in manuscripts()]
    first = embed(engine, template, made, tmp_path / "kept", lambda _what, _part: None)
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-4)
    (kept,) = (tmp_path / "kept").glob("*.npy")
    np.save(kept, first[::-1])  # told apart from what it would compute again
    again = embed(engine, template, made, tmp_path / "kept", lambda _what, _part: None)
    assert again.tolist() == first[::-1].tolist()
    changed = [JournalPaper(0, "Another title", "", 2018, ""), *made[1:]]
    assert len(embed(engine, template, changed, tmp_path / "kept", lambda _what, _part: None)) == len(made)
    assert len(list((tmp_path / "kept").glob("*.npy"))) == 2
    engine.close()


def test_both_kinds_of_graph_find_added_papers(tmp_path: Path) -> None:
    packed = onnx.ModelProto.FromString((default_release() / ENCODER).read_bytes())
    with_papers(packed, np.eye(128, dtype=np.float32)[:5])
    held = {tensor.name: list(tensor.dims) for tensor in packed.graph.initializer}
    assert held["corpus.int8"] == [128, held["corpus.scale"][0]]
    release = write_release(tmp_path / "evidence")
    plain = onnx.ModelProto.FromString((release / ENCODER).read_bytes())
    with pytest.raises(ReleaseError, match="dimensions"):
        with_papers(plain, np.eye(128, dtype=np.float32)[:5])
    for tensor in plain.graph.initializer:
        tensor.name = tensor.name.replace("corpus", "other")
    with pytest.raises(ReleaseError, match="has no constant `corpus`"):
        with_papers(plain, np.eye(8, dtype=np.float32)[:5])
