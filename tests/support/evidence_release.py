"""A tiny release of random weights with encoder, corpus and evidence, over the world's catalogue."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tests.support.world import catalogue
from xuankan.protocol.template import Template
from xuankan.protocol.wire import Request
from xuankan_worker.engines.runtime import open_session
from xuankan_worker.manifest import (
    CORPUS,
    ENCODER,
    MODEL,
    Architecture,
    EncoderShape,
    Fusion,
    JournalPrior,
    Manifest,
    Weights,
    file_sha256,
)
from xuankan_worker.releases.graph import GraphWriter, export
from xuankan_worker.releases.random_checkpoint import random_checkpoint

CATALOGUE = "catalogue.json.gz"
JOURNAL_TOKENS, DIMENSIONS, NEIGHBOURS, HIDDEN, POSITIONS = 2, 8, 12, 16, 512
TRAINED = 36
"""Journals that the encoder knows; the last four of the catalogue came later."""
SILENT = 3
"""A journal of the catalogue without papers."""
FUSION = Fusion(
    base=Weights(first_stage=0.3, encoder=0.7, mean=1.0, density=0.3),
    full=Weights(first_stage=0.2, encoder=0.6, mean=1.0, density=0.2, cross_encoder=4.0),
    unseen_base=Weights(first_stage=0.5, mean=2.0, density=0.5, constant=-2.0),
    unseen_full=Weights(first_stage=0.5, mean=2.0, density=0.5, cross_encoder=3.0, constant=-2.0),
    kernel_temperature=0.05,
    memory_years=6.0,
    now=2018,
    coverage=0.9,
    most_rows=12,
    journal_tokens=JOURNAL_TOKENS,
    fit={"constant": 1.0, "nearest": 2.0, "likeliest": 0.1},
    prior=JournalPrior(newest_year=2015, newest=0.9, recent=-1.1, memory_years=4.0),
)


def papers() -> list[tuple[str, int, str, str]]:
    """Journal, year, title and link of each paper; two are of a journal that the catalogue lacks."""
    found: list[tuple[str, int, str, str]] = []
    for number in range(200):
        journal = "gone" if number in (5, 6) else f"journal-{number % 40}"
        if journal != f"journal-{SILENT}":
            link = f"https://doi.org/10.1/{number}" if number % 3 else ""
            found.append((journal, 2000 + number % 19, f"On the {number}th measurement of décor", link))
    return found


def _packed(texts: list[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    parts = [text.encode() for text in texts]
    return np.frombuffer(b"".join(parts), np.uint8), np.cumsum([0, *(len(part) for part in parts)])


def write_corpus(path: Path) -> None:
    template = Template.default()
    journals = sorted({journal for journal, *_ in papers()})
    tokens = [template.encode_manuscript(title, "").ids for _, _, title, _ in papers()]
    titles, title_offsets = _packed([title for _, _, title, _ in papers()])
    links, link_offsets = _packed([link for *_, link in papers()])
    np.savez_compressed(
        path,
        journals=np.array(journals),
        journal=np.array([journals.index(journal) for journal, *_ in papers()], np.uint16),
        year=np.array([year for _, year, _, _ in papers()], np.int16),
        titles=titles,
        title_offsets=title_offsets,
        links=links,
        link_offsets=link_offsets,
        tokens=np.concatenate(tokens).astype(np.uint16),
        token_offsets=np.cumsum([0, *(len(ids) for ids in tokens)]),
        logit_journals=np.array([journal.id for journal in catalogue().journals[:TRAINED]]),
    )


def encoder_graph() -> onnx.ModelProto:
    """Mean of word vectors, a linear classifier, a projection, and its nearest papers."""
    g, random = GraphWriter(), np.random.default_rng(3)

    def weights(*shape: int) -> NDArray[np.float32]:
        return random.standard_normal(shape).astype(np.float32)

    vocabulary = Template.default().tokenizer.get_vocab_size()
    word = g.node("Gather", "word", g.constant("words", weights(vocabulary, HIDDEN)), "input_ids")
    width = g.node("Shape", "width", "input_ids", start=1, end=2)
    columns = g.constant("columns", np.arange(POSITIONS, dtype=np.int32))
    column = g.node("Slice", "column", columns, g.ints(0), width)
    length = g.node("Unsqueeze", "length", "lengths", g.ints(1))
    real = g.node("Cast", "real", g.node("Less", "inside", column, length), to=TensorProto.FLOAT)
    masked = g.node("Mul", "masked", word, g.node("Unsqueeze", "mask", real, g.ints(2)))
    total = g.node("ReduceSum", "total", masked, g.ints(1), keepdims=0)
    mean = g.node("Div", "mean", total, g.node("Cast", "divisor", length, to=TensorProto.FLOAT))
    g.node("MatMul", "logits", mean, g.constant("classifier", 3 * weights(HIDDEN, TRAINED)))
    projected = g.node("MatMul", "projected", mean, g.constant("projection", weights(HIDDEN, DIMENSIONS)))
    size = g.node("ReduceL2", "size", projected, g.ints(1))
    g.node("Div", "embedding", projected, size)
    corpus = weights(len(papers()), DIMENSIONS)
    corpus /= np.linalg.norm(corpus, axis=1, keepdims=True)
    cosines = g.node("MatMul", "cosines", "embedding", g.constant("corpus", corpus.T))
    values, places = g.outputs("TopK", "top", [cosines, g.ints(NEIGHBOURS)], ["values", "places"])
    g.node("Identity", "nearness", values)
    g.node("Cast", "neighbours", places, to=TensorProto.INT32)
    ints, floats = TensorProto.INT32, TensorProto.FLOAT
    inputs = (("input_ids", ("B", "S")), ("lengths", ("B",)), ("first_lengths", ("B",)))
    outputs = (
        ("logits", floats, TRAINED),
        ("embedding", floats, DIMENSIONS),
        ("neighbours", ints, NEIGHBOURS),
        ("nearness", floats, NEIGHBOURS),
    )
    graph = g.graph(
        "encoder",
        [helper.make_tensor_value_info(name, ints, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(name, kind, ("B", size)) for name, kind, size in outputs],
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])


def write_release(directory: Path, fusion: Fusion = FUSION) -> Path:
    """The release, and its catalogue as `catalogue.json.gz` beside it."""
    template = Template.default()
    vocabulary = template.tokenizer.get_vocab_size() + JOURNAL_TOKENS * TRAINED
    checkpoint = random_checkpoint(
        directory / "checkpoint", 2, HIDDEN, 2, 2 * HIDDEN, vocabulary, POSITIONS, seed=1
    )
    release = directory / "release"
    release.mkdir()
    export(checkpoint, release / MODEL)
    (release / ENCODER).write_bytes(encoder_graph().SerializeToString())
    write_corpus(release / CORPUS)
    shape = Architecture("bert", 2, 2, HIDDEN, 2 * HIDDEN, vocabulary, POSITIONS)
    Manifest(
        name="tiny-evidence",
        base_model="random",
        architecture=shape,
        template=template.fingerprint,
        catalogue=catalogue().version,
        first_stage_weight=0.0,
        temperature=1.2,
        files={name: file_sha256(release / name) for name in (MODEL, ENCODER, CORPUS)},
        encoder=EncoderShape(shape, TRAINED, DIMENSIONS, NEIGHBOURS),
        fusion=fusion,
    ).save(release)
    catalogue().save(directory / CATALOGUE)
    return release


class PlainRanker:
    """What a release with encoder says of a request, computed row by row and journal by journal."""

    def __init__(self, release: Path) -> None:
        self.fusion = FUSION
        self._encoder, self._scorer = open_session(release / ENCODER), open_session(release / MODEL)
        self._template = Template.default()

    def near(self, asked: Request) -> tuple[NDArray[np.float32], list[tuple[int, float]]]:
        """Log-probabilities of the journals that it knows, and the neighbours in the catalogue."""
        t = self._template
        row = [t.cls_id, *asked.tokens.tolist(), t.sep_id]
        outputs = self._encoder.run(["logits", "neighbours", "nearness"], _feed(row, len(row)))
        logits, neighbours, nearness = (output[0] for output in outputs)
        pairs = zip(neighbours.tolist(), nearness.tolist(), strict=True)
        kept = [(paper, cosine) for paper, cosine in pairs if papers()[paper][0] != "gone"]
        return logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max(), kept

    def score(self, asked: Request, journal: int, evidence: list[int]) -> float:
        """The cross-encoder's score of a journal."""
        t, one = self._template, catalogue()[journal]
        mark = {mark: t.tokenizer.token_to_id(mark) for mark in ".;"}
        own = t.tokenizer.get_vocab_size() + JOURNAL_TOKENS * journal
        second = [own, own + 1] if journal < TRAINED else []
        if evidence:
            second += t.encode_profile(one.title).ids[:14].tolist()
            for place, paper in enumerate(evidence):
                title = t.encode_manuscript(papers()[paper][2], "").ids[:20].tolist()
                second += [mark[";" if place else "."], *title]
        else:
            second += t.encode_profile(one.profile).ids[: t.max_profile_tokens - len(second)].tolist()
        first = [t.cls_id, *asked.tokens.tolist(), t.sep_id]
        row = [*first, *second, t.sep_id]
        return float(self._scorer.run(["scores"], _feed(row, len(first)))[0][0])

    def rank(self, asked: Request) -> tuple[dict[str, float], dict[str, list[int]], int]:
        """Log-probability and papers of each candidate, and how many got a row."""
        shares, kept = self.near(asked)
        f, lowest = self.fusion, kept[-1][1]
        ages = {paper: max(0, f.now - papers()[paper][1]) / f.memory_years for paper, _ in kept}
        mass = {paper: math.exp(cosine / f.kernel_temperature - ages[paper]) for paper, cosine in kept}
        floor = math.exp(lowest / f.kernel_temperature - self._oldest(asked))
        base: dict[int, float] = {}
        full: dict[int, float] = {}
        evidence: dict[int, list[int]] = {}
        for journal, first in zip(asked.candidates.tolist(), asked.first_stage.tolist(), strict=True):
            own = [(p, cosine) for p, cosine in kept if papers()[p][0] == catalogue()[journal].id]
            evidence[journal] = [paper for paper, _ in own[:3]]
            mean = sum([*(cosine for _, cosine in own[:3]), *[lowest] * 3][:3]) / 3
            density = math.log(max(sum(mass[p] for p, _ in own), floor)) - math.log(sum(mass.values()))
            trained = journal < TRAINED
            encoder = float(shares[journal]) if trained else 0.0
            parts = {"first_stage": first, "encoder": encoder, "mean": mean, "density": density}
            prior = _prior(f.prior, journal) if trained else 0.0
            for w, scores in (
                (f.base if trained else f.unseen_base, base),
                (f.full if trained else f.unseen_full, full),
            ):
                weighted = sum(getattr(w, name) * part for name, part in parts.items())
                scores[journal] = w.constant + prior + weighted
        before = _normalized(base)
        rows: list[int] = []
        for journal in sorted(before, key=lambda j: -before[j]):
            if sum(math.exp(before[j]) for j in rows) < f.coverage and len(rows) < f.most_rows:
                rows.append(journal)
        for journal in rows:
            weight = (f.full if journal < TRAINED else f.unseen_full).cross_encoder
            full[journal] += weight * self.score(asked, journal, evidence[journal])
        inside = _normalized({journal: full[journal] for journal in rows})
        share = math.log(sum(math.exp(before[journal]) for journal in rows))
        after = before | {journal: value + share for journal, value in inside.items()}
        ids = {journal: catalogue()[journal].id for journal in after}
        return (
            {ids[j]: value for j, value in after.items()},
            {ids[j]: found for j, found in evidence.items()},
            len(rows),
        )

    def _oldest(self, asked: Request) -> float:
        """The greatest age among all neighbours, those that the catalogue lacks included."""
        t = self._template
        row = [t.cls_id, *asked.tokens.tolist(), t.sep_id]
        found: list[int] = self._encoder.run(["neighbours"], _feed(row, len(row)))[0][0].tolist()
        return max(max(0, self.fusion.now - papers()[paper][1]) for paper in found) / self.fusion.memory_years


def _feed(row: list[int], first: int) -> dict[str, NDArray[np.int32]]:
    return {
        "input_ids": np.array([row], np.int32),
        "lengths": np.array([len(row)], np.int32),
        "first_lengths": np.array([first], np.int32),
    }


def _prior(prior: JournalPrior | None, journal: int) -> float:
    """Of a journal that the encoder knows, against the mean of all that it knows."""
    if prior is None:
        return 0.0
    added: list[float] = []
    for one in catalogue().journals[:TRAINED]:
        ages = [prior.newest_year - year for name, year, _, _ in papers() if name == one.id]
        recent = sum(math.exp(-max(age, 0) / prior.memory_years) for age in ages)
        added.append(prior.newest * math.log1p(ages.count(0)) + prior.recent * math.log1p(recent))
    return added[journal] - sum(added) / len(added)


def _normalized(scores: dict[int, float]) -> dict[int, float]:
    top = max(scores.values())
    total = top + math.log(sum(math.exp(score - top) for score in scores.values()))
    return {journal: score - total for journal, score in scores.items()}
