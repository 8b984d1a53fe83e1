"""The embeddings of a corpus, as a training run keeps them for the release. NumPy only."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xuankan.errors import ReleaseError
from xuankan_worker.execution.nearness import Kernel

CORPUS_VECTORS = "corpus-vectors.npz"


@dataclass(frozen=True, slots=True)
class CorpusVectors:
    """Embeddings of the papers of some splits, one split after the other.

    Attributes:
        embeddings: float16 [N, D].
        splits: whose papers they are.
        encoder: the checkpoint of the run that made them.
        kernel: of the papers' density.
    """

    embeddings: NDArray[np.float16]
    splits: tuple[str, ...]
    encoder: str
    kernel: Kernel

    @property
    def dimensions(self) -> int:
        """D."""
        return self.embeddings.shape[1]

    def unit(self) -> NDArray[np.float32]:
        """At length one, float32 [N, D]."""
        vectors = self.embeddings.astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def save(self, run: Path) -> None:
        """Write `corpus-vectors.npz` into a run's directory."""
        kernel = self.kernel
        np.savez(
            run / CORPUS_VECTORS,
            embeddings=self.embeddings,
            splits=np.array(self.splits),
            encoder=np.array(self.encoder),
            kernel=np.array([kernel.temperature, kernel.memory_years, kernel.now]),
        )

    @classmethod
    def load(cls, run: Path) -> CorpusVectors:
        """Read what `save` wrote.

        Raises:
            ReleaseError: it is not there, or not what `save` wrote.
        """
        path = run / CORPUS_VECTORS
        try:
            with np.load(path, allow_pickle=False) as stored:
                temperature, memory_years, now = stored["kernel"].tolist()
                return cls(
                    stored["embeddings"],
                    tuple(str(name) for name in stored["splits"]),
                    str(stored["encoder"]),
                    Kernel(temperature, memory_years, int(now)),
                )
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise ReleaseError(
                f"{path} holds no embeddings (`xuankan model train` makes it last): {error}"
            ) from error
