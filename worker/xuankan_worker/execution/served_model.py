"""What scores requests: one release on one engine, over one catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from xuankan.catalogue import Catalogue
from xuankan.errors import ReleaseError
from xuankan.protocol.template import SPECIAL_TOKENS, Template
from xuankan_worker.engines import EncoderInfo, Engine, EngineKind, open_engine
from xuankan_worker.execution.corpus import Corpus
from xuankan_worker.execution.encoder_step import EncoderStep
from xuankan_worker.execution.evidence_rows import EvidenceRows
from xuankan_worker.execution.rows import Profiles
from xuankan_worker.manifest import CORPUS, Manifest, default_release, template_of


@dataclass(frozen=True)
class ServedModel:
    """A release ready to serve; a request is scored by one of these only.

    Attributes:
        engine: loaded; the worker opens its contexts and never closes it.
        template: the release's; requests must be made with it.
        catalogue: the journals that requests index.
        release: the release's fingerprint.
        first_stage_weight: of the first stage's score in the fused logit, from the release's manifest.
        temperature: of the softmax that makes scores of logits, from the release's manifest.
        encoder_step: of a release with encoder and corpus.

    Raises:
        ReleaseError: a pair can be longer than the engine's longest bucket, or have tokens unknown to it.
    """

    engine: Engine
    template: Template
    catalogue: Catalogue
    release: str
    first_stage_weight: float
    temperature: float
    encoder_step: EncoderStep | None = None

    def __post_init__(self) -> None:
        _ = self.metadata  # made now, not by the first request
        info, tokens = self.engine.info, self.template.tokenizer.get_vocab_size()
        if tokens > info.vocabulary_size:
            raise ReleaseError(
                f"the template has {tokens} tokens, but the model of engine {info.name} knows only "
                f"{info.vocabulary_size}: they belong to different releases"
            )
        step, manuscript = self.encoder_step, self.template.max_manuscript_tokens
        if (step is None) != (info.encoder is None):
            raise ReleaseError(f"engine {info.name} and release {self.release} differ in having an encoder")
        if step is not None and info.encoder is not None:
            _check_encoder(step, info.encoder, manuscript + 2)
            if (step.rows is None) != (not info.buckets):
                raise ReleaseError(
                    f"engine {info.name} and release {self.release} differ in having a cross-encoder"
                )
        if not info.buckets:
            return
        longest = self.template.max_length  # rows with evidence fill it
        if step is None:
            longest = int(self.profiles.lengths.max()) + manuscript + SPECIAL_TOKENS
        if longest > (bucket := info.buckets[-1]):
            raise ReleaseError(
                f"pairs of this release and catalogue have up to {longest} tokens, but engine "
                f"{info.name} runs at most {bucket}: rebuild the engine with a longer bucket"
            )

    @cached_property
    def profiles(self) -> Profiles:
        """The catalogue's profiles in tokens."""
        return Profiles.encode((journal.profile for journal in self.catalogue.journals), self.template)

    @cached_property
    def metadata(self) -> tuple[Mapping[str, Any], ...]:
        """What a result says of each journal, in the catalogue's order."""
        return tuple(journal.metadata() for journal in self.catalogue.journals)


def load_served_model(
    engine: EngineKind, release: Path | None, catalogue_file: Path | None, max_batch: int
) -> ServedModel:
    """Load a release, its engine and a catalogue; None stands for what the package carries.

    Raises:
        ReleaseError: the release cannot be read, or does not fit the engine or the catalogue.
        CatalogueError: the catalogue cannot be read.
        EngineError: the engine cannot be loaded here.
    """
    release = release or default_release()
    manifest = Manifest.load(release)
    template = template_of(manifest, release)
    catalogue = Catalogue.default() if catalogue_file is None else Catalogue.load(catalogue_file)
    step = None
    if manifest.encoder is not None and manifest.fusion is not None:
        corpus, rows = Corpus.load(release / CORPUS, catalogue), None
        if manifest.architecture is not None:
            rows = EvidenceRows(catalogue, corpus, template, manifest.fusion.journal_tokens)
        step = EncoderStep(corpus, manifest.fusion, rows)
    opened = open_engine(engine, release, max_batch)
    return ServedModel(
        opened,
        template,
        catalogue,
        manifest.fingerprint,
        manifest.first_stage_weight,
        manifest.temperature,
        step,
    )


def _check_encoder(step: EncoderStep, info: EncoderInfo, longest: int) -> None:
    if info.journals != step.corpus.logits:
        raise ReleaseError(
            f"the encoder has {info.journals} logits, but the corpus names {step.corpus.logits} journals for "
            "them: they are not of one release"
        )
    if longest > (bucket := info.buckets[-1]):
        raise ReleaseError(
            f"manuscripts have up to {longest} tokens, but the encoder runs at most {bucket}: rebuild the "
            "engine with a longer bucket"
        )
