"""The two models of the benchmark, as checkpoint, release and engine; made where they are not there yet."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from xuankan.errors import XuankanError
from xuankan.protocol.template import Template, default_directory
from xuankan_worker.manifest import MANIFEST, default_release

NAMES = ("base", "default")
BASE_BUDGETS = (384, 125)
"""Tokens of manuscript and profile: a BERT-base's 512 positions, less three special tokens."""
_ENGINES = "engines"


@dataclass(frozen=True, slots=True)
class Model:
    """Where a model's files lie.

    Attributes:
        name: `base`, a cross-encoder of BERT-base's size with random weights, or `default`, the package's.
        directory: of everything that follows.
    """

    name: str
    directory: Path

    @property
    def checkpoint(self) -> Path:
        """Hugging Face's float32 files."""
        return self.directory / "checkpoint"

    @property
    def release(self) -> Path:
        """What the worker serves."""
        return self.directory / "release"

    @property
    def pairs(self) -> Path:
        """The pairs in this model's tokens."""
        return self.directory / "pairs.json"

    @property
    def scores(self) -> Path:
        """What the engine gave each pair."""
        return self.directory / "scores.npy"

    @property
    def cache(self) -> Path:
        """Kernels that the engine compiled."""
        return self.directory / "cache"

    def template(self) -> Template:
        """The template of the model's pairs."""
        if self.name == "default":
            return Template.default()
        tokenizer = (default_directory() / "tokenizer.json").read_bytes()
        return Template.build(tokenizer, *BASE_BUDGETS)


def make_model(model: Model, build_options: Sequence[str] | None, say: Callable[[str], None]) -> None:
    """Write the checkpoint, export it and build its engine, with the commands that a user would give.

    Args:
        model: where.
        build_options: of `xuankan model build`; None builds nothing.
        say: told each step.

    Raises:
        XuankanError: a command failed; what it said went to stderr.
        ModuleNotFoundError: a package is missing that making a checkpoint needs.
    """
    if not (model.checkpoint / "config.json").exists():
        say("writing the checkpoint")
        _write_checkpoint(model)
    if not (model.release / MANIFEST).exists():
        say("exporting")
        _command(say, "export", *_source(model), "--out", str(model.release), "--name", f"bench-{model.name}")
    if build_options is None:
        return
    wanted = json.dumps(list(build_options))
    options = model.directory / "build.json"
    built = options.read_text() if options.exists() else None
    if built != wanted or not any((model.release / _ENGINES).glob("*/engine.plan")):
        say("building the engine")
        for outdated in (model.release / _ENGINES, model.cache):
            shutil.rmtree(outdated, ignore_errors=True)
        _command(say, "build", str(model.release), *build_options)
        options.write_text(wanted)


def _write_checkpoint(model: Model) -> None:
    # safetensors and onnx are extras.
    if model.name == "default":
        from xuankan_worker.releases.dequantize import read_checkpoint

        read_checkpoint(default_release(), model.checkpoint)
    else:
        from xuankan_worker.releases.random_checkpoint import random_checkpoint

        random_checkpoint(model.checkpoint)


def _source(model: Model) -> tuple[str, ...]:
    """What to export, and what its files do not say: the package's own model is told without either."""
    if model.name == "default":
        return ()
    manuscript, profile = BASE_BUDGETS
    budgets = ("--max-manuscript-tokens", str(manuscript), "--max-profile-tokens", str(profile))
    return (str(model.checkpoint), *budgets)


def _command(say: Callable[[str], None], name: str, *arguments: str) -> None:
    started_s = time.perf_counter()
    command = [sys.executable, "-P", "-m", "xuankan.cli.main", "model", name, *arguments]
    # Standard output is for the benchmark's result.
    status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False).returncode  # noqa: S603
    if status:
        raise XuankanError(f"`xuankan model {name}` ended with status {status}")
    say(f"xuankan model {name} took {time.perf_counter() - started_s:.1f} s")
