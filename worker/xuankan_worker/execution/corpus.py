"""The corpus of a release: the papers that speak for its journals, in the order that its encoder knows them.

The file `corpus.npz` holds of N papers of M journals (their embeddings are part of the encoder's graph):

- `journals`: text [M], ids in a catalogue; `journal`: integer [N], which of them published each paper;
- `year`: integer [N];
- `titles`, `links`: uint8, UTF-8 of all texts one behind the other; `title_offsets`, `link_offsets`:
  integer [N + 1]. A link is a URL, or empty where none is certain;
- `tokens`: integer, of the titles in the release's template, each cut to what a row has room for;
  `token_offsets`: integer [N + 1];
- `logit_journals`: text [J], which journals the encoder's logits are of.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from xuankan.catalogue import Catalogue
from xuankan.errors import ReleaseError
from xuankan.protocol.ranked import is_link


class Texts:
    """Texts one behind the other.

    Args:
        utf8: uint8, their UTF-8.
        offsets: int64 [N + 1]; text i is `utf8[offsets[i]:offsets[i + 1]]`.
    """

    def __init__(self, utf8: NDArray[np.uint8], offsets: NDArray[np.int64]) -> None:
        # Read a few at a time, for each ranking: NumPy's own scalars and slices take five times as long.
        self._utf8, self._offsets = utf8.tobytes(), memoryview(cast(Any, offsets))

    def __getitem__(self, index: int) -> str:
        return self._utf8[self._offsets[index] : self._offsets[index + 1]].decode(errors="replace")


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """Papers, and where a catalogue has their journals.

    Attributes:
        journal: int32 [N], catalogue position of each paper's journal; -1 if the catalogue lacks it.
        year: int32 [N].
        titles, links: of each paper.
        tokens: int32 [T], of the titles, one behind the other.
        token_offsets: int64 [N + 1].
        logit_column: int32 [journals of the catalogue], the encoder's logit of each; -1 if it was not trained
            on it.
        logits: J, how many the encoder has.
    """

    journal: NDArray[np.int32]
    year: NDArray[np.int32]
    titles: Texts
    links: Texts
    tokens: NDArray[np.int32]
    token_offsets: NDArray[np.int64]
    logit_column: NDArray[np.int32]
    logits: int

    def __len__(self) -> int:
        return len(self.journal)

    @classmethod
    def load(cls, path: Path, catalogue: Catalogue) -> Corpus:
        """Read a release's corpus as a catalogue sees it.

        Raises:
            ReleaseError: it cannot be read, or its parts do not fit together; the message names the part.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                found: dict[str, NDArray[Any]] = {name: stored[name] for name in stored.files}
            return cls._of(found, catalogue)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ReleaseError(f"{path} is not a corpus of a release: {error}") from error

    @classmethod
    def _of(cls, found: dict[str, NDArray[Any]], catalogue: Catalogue) -> Corpus:
        position = {journal.id: place for place, journal in enumerate(catalogue.journals)}
        in_catalogue = [position.get(str(name), -1) for name in found["journals"]]
        places = np.array([*in_catalogue, -1], np.int32)
        journal = found["journal"].astype(np.int64)
        papers = len(journal)
        _within("journal", journal, len(in_catalogue) - 1)
        column = np.full(len(catalogue), -1, np.int32)
        for number, name in enumerate(found["logit_journals"]):
            if (place := position.get(str(name))) is not None:
                column[place] = number
        if found["year"].shape != (papers,):
            raise ValueError(f"year has shape {found['year'].shape}, not ({papers},) as journal has")
        return cls(
            journal=places[journal],
            year=found["year"].astype(np.int32),
            titles=Texts(found["titles"], _offsets(found, "title_offsets", papers, len(found["titles"]))),
            links=Texts(found["links"], _offsets(found, "link_offsets", papers, len(found["links"]))),
            tokens=found["tokens"].astype(np.int32),
            token_offsets=_offsets(found, "token_offsets", papers, len(found["tokens"])),
            logit_column=column,
            logits=len(found["logit_journals"]),
        )

    def link(self, paper: int) -> str | None:
        """Where a paper can be read, None if that is not certain."""
        link = self.links[paper]
        return link if is_link(link) else None


def _within(name: str, values: NDArray[np.int64], last: int) -> None:
    if len(values) and not (int(values.min()) >= 0 and int(values.max()) <= last):
        raise ValueError(f"{name} has values from {values.min()} to {values.max()}, not 0 to {last}")


def _offsets(found: dict[str, NDArray[Any]], name: str, papers: int, end: int) -> NDArray[np.int64]:
    offsets = found[name].astype(np.int64)
    right = offsets.shape == (papers + 1,) and offsets[0] == 0 and offsets[-1] == end
    if not right or (np.diff(offsets) < 0).any():
        raise ValueError(f"{name} are not {papers + 1} ascending numbers from 0 to {end}")
    return offsets
