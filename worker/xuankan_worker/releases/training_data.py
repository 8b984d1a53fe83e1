"""The file that `xuankan model prepare` writes and every training command reads. NumPy only."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from xuankan.errors import ReleaseError
from xuankan.protocol.template import Template
from xuankan_worker.releases.packing import Ragged

FORMAT = "xuankan-training-data/2"


@dataclass(frozen=True, slots=True)
class Split:
    """Papers of one split.

    Attributes:
        manuscripts: token sequences of the N papers, each beginning with its title.
        title_lengths: uint8 [N], tokens of the titles.
        truth: int16 [N], catalogue position of the journal where each appeared.
        year: int16 [N].
        candidates: int16 [N, C], catalogue positions that the first stage likes best, best first.
        first_stage: float32 [N, C], their log-probabilities. Of training papers: by first stages that were
            fitted without them.
    """

    manuscripts: Ragged
    title_lengths: NDArray[np.uint8]
    truth: NDArray[np.int16]
    year: NDArray[np.int16]
    candidates: NDArray[np.int16]
    first_stage: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.truth)

    def take(self, rows: NDArray[np.integer]) -> Split:
        """Some of the papers."""
        parts: dict[str, Any] = {
            name: getattr(self, name)[rows]
            for name in ("title_lengths", "truth", "year", "candidates", "first_stage")
        }
        return Split(manuscripts=Ragged.of([self.manuscripts[row] for row in rows.tolist()]), **parts)


@dataclass(frozen=True, slots=True)
class TrainingData:
    """All that training needs beside a base model.

    Attributes:
        splits: `train` and others.
        names, profiles: token sequences of the catalogue's J journals.
        about: plain values that say where this came from (hashes, versions, counts).
        template, tokenizer_json: what the tokens were made with.
    """

    splits: dict[str, Split]
    names: Ragged
    profiles: Ragged
    about: dict[str, Any]
    template: Template
    tokenizer_json: bytes

    @property
    def journals(self) -> int:
        """How many journals the catalogue has."""
        return len(self.names)

    def save(self, path: Path) -> None:
        """Write everything into one `.npz` file."""
        arrays: dict[str, Any] = {
            "about": np.array(json.dumps({"format": FORMAT, **self.about})),
            "tokenizer": np.frombuffer(self.tokenizer_json, np.uint8),
            "budgets": np.array([self.template.max_manuscript_tokens, self.template.max_profile_tokens]),
        }
        for name, ragged in (("names", self.names), ("profiles", self.profiles)):
            arrays[f"{name}.ids"], arrays[f"{name}.offsets"] = ragged.ids, ragged.offsets
        for name, split in self.splits.items():
            arrays[f"{name}/ids"], arrays[f"{name}/offsets"] = (
                split.manuscripts.ids,
                split.manuscripts.offsets,
            )
            for part in ("title_lengths", "truth", "year", "candidates"):
                arrays[f"{name}/{part}"] = getattr(split, part)
            # Half precision: a thousandth of a logit, and half of the file.
            arrays[f"{name}/first_stage"] = split.first_stage.astype(np.float16)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **arrays)

    @classmethod
    def load(cls, path: Path) -> TrainingData:
        """Read a file written by `save`.

        Raises:
            ReleaseError: the file cannot be read or is not training data of this format.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            about = cast("dict[str, Any]", json.loads(str(arrays["about"])))
            if (found := about.pop("format")) != FORMAT:
                raise ValueError(f"its format is {found!r}, not {FORMAT!r}")
            manuscript, profile = (int(budget) for budget in arrays["budgets"])
            tokenizer_json = arrays["tokenizer"].tobytes()
            names = dict.fromkeys(key.split("/")[0] for key in arrays if "/" in key)
            return cls(
                splits={name: _split(arrays, name) for name in names},
                names=Ragged(arrays["names.ids"], arrays["names.offsets"]),
                profiles=Ragged(arrays["profiles.ids"], arrays["profiles.offsets"]),
                about=about,
                template=Template.build(tokenizer_json, manuscript, profile),
                tokenizer_json=tokenizer_json,
            )
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise ReleaseError(
                f"{path} cannot be read as training data (make it with `xuankan model prepare`): {error}"
            ) from error


def _split(arrays: dict[str, NDArray[Any]], name: str) -> Split:
    return Split(
        manuscripts=Ragged(arrays[f"{name}/ids"], arrays[f"{name}/offsets"]),
        title_lengths=arrays[f"{name}/title_lengths"],
        truth=arrays[f"{name}/truth"],
        year=arrays[f"{name}/year"],
        candidates=arrays[f"{name}/candidates"],
        first_stage=arrays[f"{name}/first_stage"].astype(np.float32),
    )


def joined(*splits: Split) -> Split:
    """Several splits as one; only candidates that all of them list are kept."""
    columns = min(split.candidates.shape[1] for split in splits)
    starts = np.cumsum([0, *(len(split.manuscripts.ids) for split in splits)])
    offsets = [split.manuscripts.offsets[1:] + start for split, start in zip(splits, starts, strict=False)]
    manuscripts = Ragged(
        np.concatenate([split.manuscripts.ids for split in splits]), np.concatenate([[0], *offsets])
    )
    return replace(
        splits[0],
        manuscripts=manuscripts,
        candidates=np.concatenate([split.candidates[:, :columns] for split in splits]),
        first_stage=np.concatenate([split.first_stage[:, :columns] for split in splits]),
        title_lengths=np.concatenate([split.title_lengths for split in splits]),
        truth=np.concatenate([split.truth for split in splits]),
        year=np.concatenate([split.year for split in splits]),
    )
