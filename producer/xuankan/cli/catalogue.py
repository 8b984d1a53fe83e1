"""`xuankan catalogue`: build, import, show and check catalogues."""

from __future__ import annotations

# Only light imports here: numpy, pyarrow and scikit-learn are loaded by the commands that need them.
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from xuankan.outlets import echo, json_text

if TYPE_CHECKING:
    from xuankan.candidates.first_stage import FirstStage
    from xuankan.catalogue import Catalogue, Journal
    from xuankan.catalogue.check import CatalogueReport

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_CATALOGUE = click.option(
    "--catalogue",
    "path",
    metavar="FILE",
    type=_FILE,
    help="A catalogue, as build or import writes it. Default: the packaged one.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@click.group()
def catalogue() -> None:
    """Look at the journals that are ranked, and bring your own."""


@catalogue.command()
@click.argument("text", nargs=-1)
@_CATALOGUE
@click.option(
    "--limit", type=click.IntRange(1), default=10, show_default=True, help="Journals to print at most."
)
@_JSON
def show(text: tuple[str, ...], path: Path | None, limit: int, as_json: bool) -> None:
    """Show journals by id, ISSN or words of the title; without TEXT, the catalogue's summary.

    \b
    xuankan catalogue show
    xuankan catalogue show physical review
    xuankan catalogue show 0031-9007 --json
    """  # noqa: D301  # click's mark is a real backspace
    found = _load(path)
    if not text:
        summary = {"version": found.version, "journals": len(found)}
        echo(json_text(summary) if as_json else f"catalogue {found.version}: {len(found)} journals")
        return
    journals = found.find(" ".join(text), limit)
    if as_json:
        rows = [{**j.metadata(), "profile": j.profile} for j in journals]
        echo(json_text(rows, indent=2))
    for journal in () if as_json else journals:
        _print(journal)
    if not journals:
        echo(f"no journal in catalogue {found.version} matches {' '.join(text)!r}", err=True)
        sys.exit(1)


@catalogue.command()
@_CATALOGUE
@_JSON
def check(path: Path | None, as_json: bool) -> None:
    """Tell what a catalogue lacks, field by field, and what in it cannot be right.

    Missing facts are no fault: they are shown as unknown and filtered as such. Findings are faults (a wrong
    ISSN, a journal twice, an empty profile) and make the command end with status 1.
    """
    from xuankan.catalogue.check import check as examine
    from xuankan.protocol.template import Template

    template = Template.default()
    report = examine(
        _load(path), lambda text: template.encode_profile(text).total, template.max_profile_tokens
    )
    if as_json:
        echo(json_text(report.as_dict(), indent=2))
    else:
        _print_report(report, template.max_profile_tokens)
    if report.findings:
        sys.exit(1)


@catalogue.command("import")
@click.argument("tables", nargs=-1, required=True, type=_FILE)
@click.option(
    "--output",
    "-o",
    required=True,
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write the new catalogue, such as journals.json.gz.",
)
@click.option(
    "--base",
    "path",
    metavar="FILE",
    type=_FILE,
    help="The catalogue to start from. Default: the packaged one.",
)
@click.option(
    "--papers",
    multiple=True,
    metavar="FILE",
    type=_FILE,
    help="Papers of the journals: .parquet, .csv or .jsonl with title, journal (id, ISSN or title) and any "
    "of abstract, year, doi, arxiv_id, link. May be repeated.",
)
@click.option(
    "--empty", is_flag=True, help="Start from no journal at all: rank only those of your own tables."
)
@_JSON
def import_(
    tables: tuple[Path, ...],
    output: Path,
    path: Path | None,
    papers: tuple[Path, ...],
    empty: bool,
    as_json: bool,
) -> None:
    """Bring tables of journals into a catalogue, one after the other, and write the result.

    What a table is, is told by its header:

    \b
    your own    .csv or .jsonl with a column "title" and any of: id, publisher, issns, country, homepage,
                open_access (diamond, gold, hybrid, subscription), apc_usd, languages, licence, subjects,
                scope (what it publishes, in your words) or profile. Several values in one CSV cell are
                separated by ";". Journals that the catalogue has are updated, others are added.
    DOAJ        its journal CSV (https://doaj.org/docs/public-data-dump/): access, price, languages, licence,
                for journals that the catalogue has.
    SCImago     its CSV (https://www.scimagojr.com/journalrank.php): SJR, quartile, categories, likewise.

    Beside ours.json.gz, ours.first_stage.npz is written, by which producers choose candidates: keep the two
    together. Then use it: a worker and its producers must be given the same catalogue.

    \b
    xuankan catalogue import ours.csv doaj.csv -o ours.json.gz
    xuankan catalogue check --catalogue ours.json.gz

    With papers of the new journals (20 do; their newest, with abstracts), candidates are chosen by what these
    are about, and `xuankan model corpus` puts them into the corpus of a release:

    \b
    xuankan catalogue import ours.csv --papers ours.parquet -o ours.json.gz
    xuankan model corpus --catalogue ours.json.gz --papers ours.parquet --out release
    """  # noqa: D301  # click's mark is a real backspace
    from xuankan.candidates import FirstStage, first_stage_file, first_stage_of
    from xuankan.candidates.from_papers import with_papers
    from xuankan.catalogue import Catalogue
    from xuankan.catalogue.imports import read_table
    from xuankan.catalogue.merge import merge
    from xuankan.catalogue.paper_tables import PaperTable

    if empty and path:
        raise click.UsageError("--empty and --base cannot be combined")
    journals = () if empty else _load(path).journals
    told: list[dict[str, Any]] = []
    result: Catalogue | None = None
    for number, name in enumerate(tables, start=1):
        with _progress() as progress:
            progress(f"reading {name.name}", (number - 1) / len(tables))
            table = read_table(name)
            merged = merge(journals, table)
        result, journals = merged.catalogue, merged.catalogue.journals
        told.append(
            {
                "table": str(name),
                "kind": table.kind,
                "rows": len(table.rows),
                "updated": merged.updated,
                "added": merged.added,
                "not_in_catalogue": merged.passed_over,
                "doubts": table.doubts,
            }
        )
    assert result is not None
    _written(result.save, output)
    with _progress() as progress:
        base = FirstStage.default() if path is None else first_stage_of(path, Catalogue.load(path))
        made = with_papers(base, result, [PaperTable(name, result) for name in papers], progress)
        _written(made.first_stage.save, first_stage_file(output))
    of_papers = {
        "papers": made.papers,
        "journals_with_papers": made.journals,
        "papers_of_unknown_journals": made.unknown,
        "papers_without_title": made.untitled,
    }
    if as_json:
        document = {
            "catalogue": str(output),
            "first_stage": str(first_stage_file(output)),
            "version": result.version,
            "journals": len(result),
            "tables": told,
            **(of_papers if papers else {}),
        }
        echo(json_text(document, indent=2))
        return
    for row in told:
        echo(
            f"{row['table']} ({row['kind']}): {row['rows']:,} rows, {row['updated']:,} journals updated, "
            f"{row['added']:,} added, {row['not_in_catalogue']:,} not in the catalogue"
        )
        for doubt, times in row["doubts"].items():
            echo(f"  skipped: {doubt}" + (f" (× {times})" if times > 1 else ""))
    if papers:
        echo(
            f"{made.papers:,} papers of {made.journals:,} new journals tell their candidates; passed over: "
            f"{made.unknown:,} of journals that the catalogue lacks, {made.untitled:,} without a title"
        )
    echo(f"wrote {output}: catalogue {result.version}, {len(result)} journals")


@catalogue.command()
@click.option(
    "--papers",
    required=True,
    type=_FILE,
    metavar="FILE",
    help="Parquet: title, abstract, journal, year, source, split, arxiv_categories.",
)
@click.option(
    "--journals",
    required=True,
    type=_FILE,
    metavar="FILE",
    help="Parquet: title, issns, publisher, country, and what journalsdb and DOAJ say.",
)
@click.option(
    "--output",
    "-o",
    required=True,
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where catalogue.json.gz and catalogue.first_stage.npz are written.",
)
@_JSON
def build(papers: Path, journals: Path, output: Path, as_json: bool) -> None:
    """Build a catalogue and its first stage from tables of papers and journals.

    Only the papers of the split "train" are learned from; those of the other splits are used to print how
    often the first stage has the right journal among its best. Takes two or three minutes for 50,000 papers
    and needs the `data` extra.
    """
    try:
        from xuankan.candidates import FirstStage, first_stage_file
        from xuankan.candidates.fit import fit
        from xuankan.catalogue.build import build_catalogue, read_journals
        from xuankan.catalogue.papers import read_papers
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{error.name} is missing; install xuankan[data]") from error
    from xuankan.protocol.template import Template

    template = Template.default()
    with _progress() as progress:
        training = read_papers(papers, "train")
        built = build_catalogue(
            training,
            read_journals(journals),
            lambda text: template.encode_profile(text).total,
            template.max_profile_tokens,
            progress,
        )
        first_stage = fit(training, built, progress)
        output.mkdir(parents=True, exist_ok=True)
        _written(built.save, output / "catalogue.json.gz")
        saved = first_stage_file(output / "catalogue.json.gz")
        _written(first_stage.save, saved)
        quality = _qualities(papers, built, FirstStage.load(saved), progress)
    if as_json:
        document = {"version": built.version, "journals": len(built), "first_stage": quality}
        echo(json_text(document, indent=2))
        return
    echo(f"wrote catalogue {built.version} of {len(built)} journals and its first stage to {output}")
    for split, row in quality.items():
        echo(f"{split:10}" + "  ".join(f"{name} {value:.4g}" for name, value in row.items()))


def _qualities(
    path: Path, built: Catalogue, first_stage: FirstStage, progress: Callable[[str, float], None]
) -> dict[str, dict[str, float]]:
    """The first stage's quality on every split of a table but the training split."""
    import numpy as np

    from xuankan.candidates.quality import measure
    from xuankan.catalogue.papers import read_papers, splits

    positions = {journal.title: position for position, journal in enumerate(built)}
    found: dict[str, dict[str, float]] = {}
    names = [name for name in splits(path) if name != "train"]
    for number, name in enumerate(names):
        progress(f"measuring on {name}", number / len(names))
        papers = read_papers(path, name)
        known = [i for i, title in enumerate(papers.journal) if title in positions]
        papers = papers.take(known)
        truth = np.array([positions[title] for title in papers.journal])
        found[name] = measure(first_stage.score_many(papers.title, papers.abstract), truth).as_dict()
    return found


def _load(path: Path | None) -> Catalogue:
    from xuankan.catalogue import Catalogue

    return Catalogue.load(path) if path else Catalogue.default()


def _written(save: Callable[[Path], None], path: Path) -> None:
    try:
        save(path)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror or error}") from error


@contextmanager
def _progress() -> Generator[Callable[[str, float], None]]:
    """A bar on stderr while long work runs, and nothing where stderr is no terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from xuankan.terminal import Terminal

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Terminal(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda what, part: bar.update(task, description=what, completed=part)


def _print(journal: Journal) -> None:
    click.secho(journal.title, bold=True)
    for name, value in journal.metadata().items():
        shown = "; ".join(cast("list[str]", value)) if isinstance(value, list) else value
        if name != "title" and shown not in (None, ""):
            echo(f"  {name:12} {shown}")
    echo(f"  {'profile':12} {journal.profile}\n")


def _print_report(report: CatalogueReport, max_profile_tokens: int) -> None:
    echo(f"catalogue {report.version}: {report.journals} journals")
    echo("facts that are unknown (journals):")
    for name, count in report.missing.items():
        echo(f"  {name:12} {count:6,}  {count / report.journals:4.0%}")
    if report.cut_profiles:
        echo(f"{report.cut_profiles:,} profiles are truncated: the model reads {max_profile_tokens} tokens")
    for finding in report.findings:
        echo(f"{finding.journal}: {finding.field}: {finding.message}")
    echo(f"{len(report.findings)} findings" if report.findings else "nothing is inconsistent")
