"""Padding and utilisation under bulk load, by the engine's shapes and by how much a worker prefetches.

    python tests/benchmarks/padding.py [--cost cost.json]

feeds the rows of 128 test papers x 64 journals (budgets 384 + 125, eight rounds in random order) through the
batcher to two contexts of two slots on an imagined engine. What a batch takes comes from a table
{"256x16": ms, ...} as `xuankan bench gpu` measures it, or is its tokens and those 400 more that a batch costs
a BERT-base on an H100. Deterministic: no clock, no GPU, under a minute.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from tests.support.simulation import (
    Cost,
    Lengths,
    default_cost,
    limits_of,
    row_lengths,
    shuffled,
    simulate,
    unseen_papers,
)

from xuankan_worker.engines.tensorrt.shapes import Shape, choose_buckets, default_shapes

JOURNALS, MANUSCRIPT_TOKENS, PROFILE_TOKENS, LONGEST = 64, 384, 125, 512
ROUNDS = 8


def read_cost(path: Path) -> Cost:
    """A table as a cost; a shape that it lacks is an error."""
    table: dict[str, float] = json.loads(path.read_text())

    def cost(bucket: int, rows: int) -> float:
        try:
            return table[f"{bucket}x{rows}"]
        except KeyError:
            raise click.ClickException(f"{path} has no cost of {bucket}x{rows}") from None

    return cost


def sets_of_shapes(lengths: Sequence[Lengths], cost_file: Path | None) -> dict[str, tuple[Shape, ...]]:
    """Those of the table, or candidates chosen for these lengths."""
    if cost_file is not None:
        names = json.loads(cost_file.read_text())
        shapes = sorted(_shape(name) for name in names)
        counts = sorted({shape.rows for shape in shapes})
        one = {f"table, {rows} rows": tuple(s for s in shapes if s.rows == rows) for rows in counts}
        whole = {name: found for name, found in one.items() if found[-1].bucket == shapes[-1].bucket}
        return {"table, all": tuple(shapes), **whole}
    found = np.bincount(np.concatenate(lengths), minlength=LONGEST + 1)
    sets = {"default": default_shapes(LONGEST)}
    for count in (8, 10, 12, 14):
        buckets, _ = choose_buckets(found, count)
        sets[f"{count} buckets x 16"] = tuple(Shape(bucket, 16) for bucket in buckets)
    for rows in ((4, 16), (32,), (16, 32)):
        buckets, _ = choose_buckets(found, 14)
        sets[f"14 buckets x {rows}"] = tuple(Shape(bucket, each) for bucket in buckets for each in rows)
    return sets


def _shape(name: str) -> Shape:
    bucket, _, rows = name.partition("x")
    return Shape(int(bucket), int(rows))


@click.command()
@click.option("--cost", "cost_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(cost_file: Path | None) -> None:
    """Print a table."""
    once = row_lengths(unseen_papers(128), JOURNALS, MANUSCRIPT_TOKENS, PROFILE_TOKENS)
    load = shuffled(once, ROUNDS)
    real = sum(int(lengths.sum()) for lengths in load)
    cost = default_cost if cost_file is None else read_cost(cost_file)
    click.echo(
        f"{'shapes':<22}{'prefetch':>9}{'padding':>9}{'busy':>8}{'batches':>9}{'tokens/cost':>13}{'alone':>10}"
    )
    for name, shapes in sets_of_shapes(once, cost_file).items():
        limits = limits_of(shapes)
        alone = [simulate([lengths], limits, LONGEST * JOURNALS, cost).time for lengths in once]
        for prefetch_rows in (256, 512, 1024, 2048):
            found = simulate(load, limits, prefetch_rows, cost)
            click.echo(
                f"{name:<22}{prefetch_rows:>9}{found.padding:>9.2%}{found.busy:>8.2%}{len(found.batches):>9}"
                f"{real / found.time:>13.5g}{np.mean(alone):>10.4g}"
            )


if __name__ == "__main__":
    main()
