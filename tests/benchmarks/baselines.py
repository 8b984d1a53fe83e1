"""Classical recommenders on the same papers: what the ranking has to beat.

    python tests/benchmarks/baselines.py --papers papers.parquet

prints, for every split but `train`: the TF-IDF centroid, the vote of the 50 nearest papers (the method of
JANE, Schuemie & Kors, Bioinformatics 2008), a linear classifier, and the shipped first stage. All learn from
the split `train` only. About five minutes on two cores.
"""

from __future__ import annotations

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# scikit-learn ships no types.
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import SGDClassifier
from sklearn.preprocessing import normalize

from xuankan.candidates import FirstStage
from xuankan.candidates.quality import Quality, measure
from xuankan.catalogue import Catalogue
from xuankan.catalogue.papers import Papers, read_papers, splits

NEIGHBOURS = 50
_COLUMNS = ("top1", "top3", "top5", "top10", "recall", "mrr")


def texts(papers: Papers) -> list[str]:
    return [f"{title} {abstract}" for title, abstract in zip(papers.title, papers.abstract, strict=True)]


def centroids(rows: Any, labels: NDArray[np.int64], journals: int) -> Any:
    """Unit sums of each journal's papers, [J, V]."""
    places = (labels, np.arange(len(labels)))
    return normalize(sparse.csr_matrix((np.ones(len(labels)), places), (journals, len(labels))) @ rows)


def votes(rows: Any, labels: NDArray[np.int64], journals: int, queries: Any) -> NDArray[np.float32]:
    """Summed similarities of the nearest papers by journal; ties go to no one, [N, J]."""
    result = np.zeros((queries.shape[0], journals), np.float32)
    for start in range(0, queries.shape[0], 200):
        similarity = (queries[start : start + 200] @ rows.T).toarray()
        near = np.argpartition(-similarity, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        for i, papers in enumerate(near):
            np.add.at(result[start + i], labels[papers], similarity[i, papers])
    return result


def rankings(path: Path, catalogue: Catalogue) -> Iterator[tuple[str, str, Quality]]:
    """Split, method and quality, one after the other."""
    positions = {journal.title: position for position, journal in enumerate(catalogue)}

    def truth(papers: Papers) -> NDArray[np.int64]:
        return np.array([positions[title] for title in papers.journal])

    training = read_papers(path, "train")
    labels = truth(training)
    vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=3, max_df=0.5, stop_words="english")
    rows = vectorizer.fit_transform(texts(training))
    means = centroids(rows, labels, len(catalogue))
    linear = SGDClassifier(loss="log_loss", alpha=1e-6, max_iter=5, tol=1e-3, n_jobs=2, random_state=0)
    linear.fit(rows, labels)
    first_stage = FirstStage.default().for_catalogue(catalogue)
    for split in splits(path):
        if split == "train":
            continue
        papers = read_papers(path, split)
        queries = vectorizer.transform(texts(papers))
        yield split, "TF-IDF centroid", measure((queries @ means.T).toarray(), truth(papers))
        yield (
            split,
            f"nearest {NEIGHBOURS} papers",
            measure(votes(rows, labels, len(catalogue), queries), truth(papers)),
        )
        yield split, "linear classifier", measure(linear.decision_function(queries), truth(papers))
        yield (
            split,
            "first stage",
            measure(first_stage.score_many(papers.title, papers.abstract), truth(papers)),
        )


@click.command()
@click.option("--papers", required=True, type=click.Path(exists=True, path_type=Path), help="papers.parquet")
def main(papers: Path) -> None:
    """Print how good classical recommenders are on a table of papers."""
    click.echo(f"{'split':10}{'method':22}{'n':>6}" + "".join(f"{name:>11}" for name in _COLUMNS))
    for split, method, quality in rankings(papers, Catalogue.default()):
        figures = quality.as_dict()
        click.echo(
            f"{split:10}{method:22}{quality.papers:6}"
            + "".join(f"{figures[name]:11.3f}" for name in _COLUMNS)
        )


if __name__ == "__main__":
    main()
