# Typed loosely: torch is in the `train` extra only, and its own annotations are not strict.
# pyright: basic, reportMissingImports=false
"""How a release is trained, step by step. Needs the `train` extra.

Each step leaves files, so that an interrupted run goes on:

1. `half-0`, `half-1`: an encoder on each half of the training papers (`honest.py`).
2. `honest.npz`: what the ranking thinks of its training papers, had it not seen them.
3. `encoder`: the encoder, on all of them, taught by 2.
4. `cross-encoder`: started from `half-0`, on the papers of the other half, on top of 2.
5. `scores-SPLIT.npz`: every part's scores of a split's candidates.
6. `held`, `held-dev.npz`: an encoder without a tenth of the journals, and how it scores dev when these come
   back by some papers in the corpus; their weights in the fusion are fitted to that.
7. optionally `late`: the encoder once more for a short time, on the newest papers too, after everything was
   chosen.
8. `corpus-vectors.npz`: the last encoder's embeddings of all papers that it was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from xuankan_worker.execution.nearness import Kernel, nearness
from xuankan_worker.manifest import file_sha256
from xuankan_worker.releases.encoder_training import (
    EncodedPapers,
    Encoder,
    EncoderSettings,
    Targets,
    encode,
    train_encoder,
)
from xuankan_worker.releases.honest import KERNEL, Honest, all_parts, halves, judge_training, listed_scores
from xuankan_worker.releases.optimizing import Processes, Progress
from xuankan_worker.releases.pair_training import Lists, PairEncoder, PairSettings, score_pairs, train_pairs
from xuankan_worker.releases.row_packing import JOURNAL_TOKENS, RowTexts
from xuankan_worker.releases.training_data import Split, TrainingData, joined
from xuankan_worker.releases.vectors import CORPUS_VECTORS, CorpusVectors
from xuankan_worker.releases.weights import load_heads, load_pretrained

NEIGHBOURS = 1024
"""Papers of the corpus that an encoder gives for a manuscript."""
SCORED = 32
"""Candidates of an evaluated paper that get rows."""
HELD = 10
"""One journal in so many is kept out of training in step 6."""
IMPORTED = 20
"""Papers with which it comes back: the last ones of the table."""
_NOTHING = -60.0
"""Log-probability of what a teacher shall not name."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One run.

    Attributes:
        data: see `dataset.prepare`.
        base: checkpoint that encoders start from.
        out: directory of the run.
        device: that computes.
        processes: that train together.
        report: told what is trained and how it goes.
        compiled: whether layers are compiled.
        layers: of the base model's; None keeps all.
        first: directory of steps 1 and 2, if they are another run's.
    """

    data: TrainingData
    base: Path
    out: Path
    device: torch.device
    processes: Processes
    report: Callable[[str, Progress], None]
    compiled: bool = False
    layers: int | None = None
    first: Path | None = None

    @property
    def _first(self) -> Path:
        return self.first or self.out

    def half(self, number: int, settings: EncoderSettings) -> None:
        """Step 1."""
        split = self.data.splits["train"]
        targets = Targets(split.candidates, split.first_stage)
        allowed = halves(len(split)) == number
        self._encoder(f"half-{number}", self.base, split, allowed, targets, settings)

    def judge(self) -> None:
        """Step 2."""
        path = self.out / "honest.npz"
        if self.processes.rank == 0 and not path.exists():
            split = self.data.splits["train"]
            both = [self.encode(self.load_encoder(f"half-{number}"), split) for number in (0, 1)]
            judge_training(split, (both[0], both[1]), self.data.journals, self.device).save(path)
        self._meet()

    def encoder(self, settings: EncoderSettings, teacher: Targets | None = None) -> None:
        """Step 3; the teacher is what step 2 found, if there is no better."""
        split = self.data.splits["train"]
        teacher = teacher or Honest.load(self._first / "honest.npz").targets
        self._encoder("encoder", self.base, split, np.ones(len(split), bool), teacher, settings)

    def late(self, settings: EncoderSettings, base: str = "encoder") -> None:
        """Step 7: on top of step 3, with the papers of the split `late`."""
        train, late = self.data.splits["train"], self.data.splits["late"]
        honest = Honest.load(self._first / "honest.npz").targets
        columns = min(honest.journals.shape[1], late.candidates.shape[1])
        split = joined(train, late)
        teacher = Targets(
            np.concatenate([honest.journals[:, :columns], late.candidates[:, :columns]]),
            np.concatenate([honest.scores[:, :columns], late.first_stage[:, :columns]]),
        )
        allowed = np.ones(len(split), bool)
        self._encoder("late", self.out / base, split, allowed, teacher, settings, self.out / base)

    def held(self, settings: EncoderSettings) -> None:
        """Step 6."""
        path = self.out / "held-dev.npz"
        split, out = self.data.splits["train"], held_journals(self.data.journals)
        targets = Honest.load(self._first / "honest.npz").targets
        unlisted = np.where(np.isin(targets.journals, out), _NOTHING, targets.scores)
        kept = ~np.isin(split.truth, out)
        teacher = Targets(targets.journals, unlisted)
        self._encoder("held", self.base, split, kept, teacher, settings)
        if self.processes.rank == 0 and not path.exists():
            for journal in out:
                kept[np.flatnonzero(split.truth == journal)[-IMPORTED:]] = True
            corpus = split.take(np.flatnonzero(kept))
            self.score(["dev"], encoder="held", corpus=corpus, name="held", unseen=out)
        self._meet()

    def embed(self, encoder: str, splits: Sequence[str]) -> None:
        """Step 8: of the papers of some splits."""
        if self.processes.rank or (self.out / CORPUS_VECTORS).exists():
            return
        corpus = joined(*(self.data.splits[name] for name in splits))
        vectors = self.encode(self.load_encoder(encoder), corpus).embeddings.astype(np.float16)
        CorpusVectors(vectors, tuple(splits), encoder, _kernel(corpus)).save(self.out)

    def cross_encoder(self, settings: PairSettings, start: str = "half-0") -> None:
        """Step 4."""
        if (self.out / "cross-encoder" / "model.safetensors").exists():
            return
        split, honest = self.data.splits["train"], Honest.load(self._first / "honest.npz")
        papers = np.flatnonzero(honest.known & (halves(len(split)) == 1))
        lists = Lists(
            papers=papers,
            truth=split.truth[papers].astype(np.int64),
            year=split.year[papers],
            candidates=honest.journals[papers],
            base=honest.scores[papers],
            evidence=honest.evidence[papers],
        )
        tokenizer = self.data.template.tokenizer
        extra = JOURNAL_TOKENS * self.data.journals
        torch.manual_seed(settings.seed)
        transformer = load_pretrained(self._first / start, tokenizer, self.layers, extra)
        model = PairEncoder(transformer).to(self.device)
        if self.compiled:
            transformer.compile_layers()
        seconds = train_pairs(
            model,
            lists,
            self.texts(split),
            self.data.template,
            settings,
            self.out / "cross-encoder.state",
            self.processes,
            lambda progress: self.report("cross-encoder", progress),
        )
        self._saved("cross-encoder", model, asdict(settings), seconds)

    def texts(self, split: Split, corpus: Split | None = None) -> RowTexts:
        """What rows of a split's papers are made of; default corpus: the split itself."""
        corpus = corpus or split
        return RowTexts(
            manuscripts=split.manuscripts,
            titles=corpus.manuscripts,
            title_lengths=corpus.title_lengths,
            names=self.data.names,
            profiles=self.data.profiles,
        )

    def score(
        self,
        splits: Sequence[str],
        encoder: str = "encoder",
        pairs: Path | None = None,
        corpus: Split | None = None,
        name: str = "scores",
        unseen: NDArray[np.integer] | None = None,
    ) -> None:
        """Step 5, for splits not scored yet; the corpus is the training papers by default.

        Journals that are `unseen` get NaN in place of a logit.
        """
        splits = [each for each in splits if not (self.out / f"{name}-{each}.npz").exists()]
        if not splits:
            return
        corpus = corpus or self.data.splits["train"]
        kernel = _kernel(corpus)
        loaded = self.load_encoder(encoder)
        vectors = torch.from_numpy(self.encode(loaded, corpus).embeddings).to(self.device)
        model = None if pairs is None else self.load_pairs(pairs)
        for each in splits:
            split = self.data.splits[each]
            encoded = self.encode(loaded, split)
            candidates = split.candidates.astype(np.int64)
            parts = np.empty((*candidates.shape, 4), np.float32)
            evidence = np.empty((*candidates.shape, 3), np.int32)
            near = np.empty((len(split), 3), np.float32)
            for start in range(0, len(split), 500):
                rows = slice(start, start + 500)
                found = torch.from_numpy(encoded.embeddings[rows]).to(self.device) @ vectors.t()
                best = found.topk(min(NEIGHBOURS, len(vectors)), dim=1)
                cosines, papers = best.values.cpu().numpy(), best.indices.cpu().numpy()
                of = corpus.truth[papers]
                seen = nearness(cosines, papers, of, corpus.year, self.data.journals, kernel)
                first_stage = listed_scores(split, rows, self.data.journals)
                every = all_parts(first_stage, encoded.logits[rows], seen)
                parts[rows] = np.take_along_axis(every, candidates[rows, :, None], axis=1)
                evidence[rows] = np.take_along_axis(seen.evidence, candidates[rows, :, None], axis=1)
                near[rows] = cosines[:, :3]
            if unseen is not None:
                parts[:, :, 1] = np.where(np.isin(candidates, unseen), np.nan, parts[:, :, 1])
            arrays: dict[str, Any] = {"parts": parts, "evidence": evidence, "nearest": near}
            arrays |= {"candidates": split.candidates, "truth": split.truth}
            if model is not None:
                weights = Honest.load(self._first / "honest.npz").weights
                arrays |= self._rows(model, split, corpus, parts @ weights, evidence)
            np.savez_compressed(self.out / f"{name}-{each}.npz", **arrays)

    def _rows(
        self,
        model: PairEncoder,
        split: Split,
        corpus: Split,
        base: NDArray[np.float64],
        evidence: NDArray[np.int32],
    ) -> dict[str, NDArray[Any]]:
        columns = np.argsort(-base, axis=1, kind="stable")[:, :SCORED]
        lists = Lists(
            papers=np.arange(len(split)),
            truth=split.truth.astype(np.int64),
            year=split.year,
            candidates=np.take_along_axis(split.candidates, columns, axis=1),
            base=np.take_along_axis(base, columns, axis=1).astype(np.float32),
            evidence=np.take_along_axis(evidence, columns[:, :, None], axis=1),
        )
        logits = score_pairs(model, lists, self.texts(split, corpus), self.data.template)
        return {"row_columns": columns.astype(np.int16), "row_logits": logits}

    def encode(self, encoder: Encoder, split: Split) -> EncodedPapers:
        """What an encoder says of a split."""
        return encode(encoder, split.manuscripts, self.data.template)

    def load_encoder(self, name: str) -> Encoder:
        """A trained encoder of this run or of its first steps'."""
        directory = self.out / name
        if not directory.exists():
            directory = self._first / name
        transformer = load_pretrained(directory, self.data.template.tokenizer)
        dimensions = int(json.loads((directory / "training.json").read_text())["settings"]["dimensions"])
        encoder = Encoder(transformer, self.data.journals, dimensions)
        load_heads(directory, encoder.heads)
        return encoder.to(self.device)

    def load_pairs(self, directory: Path) -> PairEncoder:
        """A trained cross-encoder."""
        extra = JOURNAL_TOKENS * self.data.journals
        model = PairEncoder(load_pretrained(directory, self.data.template.tokenizer, extra_words=extra))
        load_heads(directory, model.heads)
        return model.to(self.device)

    def _encoder(
        self,
        name: str,
        base: Path,
        split: Split,
        allowed: NDArray[np.bool_],
        teacher: Targets,
        settings: EncoderSettings,
        heads: Path | None = None,
    ) -> None:
        if (self.out / name / "model.safetensors").exists():
            return
        torch.manual_seed(settings.seed)
        transformer = load_pretrained(base, self.data.template.tokenizer, self.layers)
        encoder = Encoder(transformer, self.data.journals, settings.dimensions).to(self.device)
        if self.compiled:
            transformer.compile_layers()
        state = self.out / f"{name}.state"
        seconds = train_encoder(
            encoder,
            split,
            allowed,
            teacher,
            self.data.template,
            settings,
            state,
            self.processes,
            lambda progress: self.report(name, progress),
            None if heads is None else (lambda: load_heads(heads, encoder.heads)),
        )
        self._saved(name, encoder, asdict(settings), seconds)

    def _saved(self, name: str, model: Any, settings: dict[str, Any], seconds: float) -> None:
        if self.processes.rank == 0:
            model.save(self.out / name, self.data.tokenizer_json)
            about = {"settings": settings, "training_s": round(seconds, 1), "data": self.data.about}
            about |= {"torch": torch.__version__, "processes": self.processes.count}
            about |= {"base_model": self.base.resolve().name}
            about |= {"base_sha256": file_sha256(self.base / "model.safetensors")}
            if self.device.type == "cuda":
                about["device"] = torch.cuda.get_device_name(self.device)
            (self.out / name / "training.json").write_text(json.dumps(about, indent=2) + "\n")
            (self.out / f"{name}.state").unlink(missing_ok=True)
        self._meet()

    def _meet(self) -> None:
        if self.processes.count > 1:
            distributed.barrier()


def held_journals(journals: int) -> NDArray[np.int64]:
    """Those that step 6 keeps out of training."""
    return np.sort(np.random.default_rng(13).choice(journals, max(1, journals // HELD), replace=False))


def _kernel(corpus: Split) -> Kernel:
    return Kernel(KERNEL.temperature, KERNEL.memory_years, int(corpus.year.max()))
