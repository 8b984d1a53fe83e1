"""Ranks Arrow tables of manuscripts: what Spark and Ray call for each of their partitions."""

import os
from functools import cache

import pyarrow as pa

from xuankan import SyncProducer

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("journals", pa.list_(pa.string())),
        ("scores", pa.list_(pa.float64())),
        ("error", pa.string()),
    ]
)


@cache
def producer() -> SyncProducer:
    """One for each Python process."""
    return SyncProducer(os.environ["XUANKAN_REDIS"], server_timeout_s=300)


def rank(table: pa.Table) -> pa.Table:
    """Rank the rows (id, title, abstract), in their order; at most 64 of them are on the queue at a time."""
    given = table.select(["id", "title", "abstract"]).to_pylist()
    ranked: list[dict] = [{}] * len(given)
    for outcome in producer().rank_many(given, in_flight=64, top_k=5):
        row = {"id": given[outcome.index]["id"], "error": str(outcome.error) if outcome.error else None}
        if outcome.ranking is not None:
            row["journals"] = [place.journal for place in outcome.ranking]
            row["scores"] = [place.score for place in outcome.ranking]
        ranked[outcome.index] = row
    return pa.Table.from_pylist(ranked, schema=SCHEMA)
