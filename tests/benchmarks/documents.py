"""How fast each kind of file of records is read, and in how much memory.

    python -m tests.benchmarks.documents --mebibytes 20

Real papers, again and again, are written as each kind; each file is then read by a process of its own, as
`rerank` reads it: all records counted first, then titles, abstracts and keywords taken. Times are the
processor's, which other work on the machine disturbs less.
"""

from __future__ import annotations

import csv
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from xml.sax.saxutils import escape

import click
from tests.support.simulation import unseen_papers

Paper = tuple[int, str, str]


def _papers() -> Iterator[Paper]:
    papers = unseen_papers(120)
    for number in count():
        title, abstract = papers[number % len(papers)]
        yield number, title, " ".join(abstract.split())


def _bib(paper: Paper) -> str:
    number, title, abstract = paper
    return (
        f"@article{{p{number},\n  author = {{Nobody, A. and {{\\'E}}tienne, B.}},\n"
        f"  title = {{{{{title}}}}},\n"
        f"  abstract = {{{abstract}}},\n  keywords = {{snails, tidal pools}},\n  journal = {{Shores}},\n"
        f"  year = {{2020}},\n  doi = {{10.1000/{number}}}\n}}\n\n"
    )


def _ris(paper: Paper) -> str:
    number, title, abstract = paper
    return (
        f"TY  - JOUR\nID  - p{number}\nAU  - Nobody, A.\nTI  - {title}\nAB  - {abstract}\nKW  - snails\n"
        f"KW  - tidal pools\nJO  - Shores\nPY  - 2020\nDO  - 10.1000/{number}\nER  - \n\n"
    )


def _nbib(paper: Paper) -> str:
    number, title, abstract = paper
    return f"PMID- {number + 1}\nOWN - NLM\nTI  - {title}\nAB  - {abstract}\nOT  - snails\nJT  - Shores\n\n"


def _isi(paper: Paper) -> str:
    number, title, abstract = paper
    head = f"PT J\nAU Nobody, A\nTI {title}\nSO SHORES\nDE snails; tidal pools\n"
    return f"{head}AB {abstract}\nUT W:{number}\nER\n\n"


def _csv(paper: Paper) -> str:
    number, title, abstract = paper
    text = io.StringIO(newline="")
    csv.writer(text).writerow([number, title, abstract, "snails; tidal pools", 2020])
    return text.getvalue()


def _jsonl(paper: Paper) -> str:
    number, title, abstract = paper
    return json.dumps({"id": number, "title": title, "abstract": abstract, "keywords": ["snails"]}) + "\n"


def _pubmed(paper: Paper) -> str:
    number, title, abstract = paper
    return (
        f"<PubmedArticle><MedlineCitation><PMID>{number}</PMID><Article><ArticleTitle>{escape(title)}</ArticleTitle>"
        f"<Abstract><AbstractText>{escape(abstract)}</AbstractText></Abstract></Article></MedlineCitation>"
        "</PubmedArticle>\n"
    )


KINDS: dict[str, tuple[str, Callable[[Paper], str], str]] = {
    "papers.bib": ("", _bib, ""),
    "papers.ris": ("", _ris, ""),
    "papers.nbib": ("", _nbib, ""),
    "papers.ciw": ("FN Clarivate Analytics Web of Science\nVR 1.0\n", _isi, "EF\n"),
    "papers.csv": ("id,title,abstract,keywords,year\r\n", _csv, ""),
    "papers.jsonl": ("", _jsonl, ""),
    "papers.json": ("[", lambda paper: _jsonl(paper) + ("," if paper[0] >= 0 else ""), "{}]"),
    "papers.xml": ("<PubmedArticleSet>\n", _pubmed, "</PubmedArticleSet>\n"),
}


def _write(path: Path, size: int) -> None:
    begin, record, end = KINDS[path.name]
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(begin)
        papers = _papers()
        while file.tell() < size:
            for _ in range(100):
                file.write(record(next(papers)))
        file.write(end)


def _read(path: Path) -> None:
    """In a process of its own: seconds to count and to read, records, and the most memory."""
    from xuankan.documents import File, open_file

    began = time.process_time()
    opened = open_file(File.at(path))
    records = opened.count()
    counted = time.process_time()
    assert sum(1 for _ in opened.records()) == records
    ended = time.process_time()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([counted - began, ended - counted, records, memory]))  # noqa: T201


@click.command()
@click.option("--mebibytes", default=20, show_default=True, help="Size of each file.")
@click.option("--only", multiple=True, help="Endings of the kinds to read, as bib.")
@click.option("--read", "file", type=click.Path(path_type=Path), hidden=True)
def main(mebibytes: int, only: tuple[str, ...], file: Path | None) -> None:
    """Print a table of throughput by kind."""
    if file is not None:
        _read(file)
        return
    click.echo(
        f"{'kind':8} {'MiB':>5} {'records':>9} {'count MiB/s':>12} {'read MiB/s':>11} {'records/s':>10} "
        f"{'MiB of memory':>14}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name in KINDS:
            path = Path(folder) / name
            if only and path.suffix[1:] not in only:
                continue
            _write(path, mebibytes * 2**20)
            command = [sys.executable, "-m", "tests.benchmarks.documents", "--read", str(path)]
            answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            counting, reading, records, memory = json.loads(answer)
            size, kind = path.stat().st_size / 2**20, path.suffix[1:]
            path.unlink()
            click.echo(
                f"{kind:8} {size:5.1f} {records:9,} {size / counting:12.1f} {size / reading:11.1f} "
                f"{records / reading:10,.0f} {memory:14.0f}"
            )


if __name__ == "__main__":
    main()
