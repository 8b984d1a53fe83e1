"""A Spark job over a table of manuscripts.

    spark-submit --py-files tables.py spark_rerank.py IN.parquet OUT.parquet

The executors need `pip install 'xuankan[backlog]'` and XUANKAN_REDIS (spark.executorEnv.XUANKAN_REDIS).
"""

import sys
from collections.abc import Iterator

import pyarrow as pa


def rank_partition(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Rank a partition."""
    import tables

    for batch in batches:
        yield from tables.rank(pa.Table.from_batches([batch])).to_batches()


if __name__ == "__main__":
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.appName("rerank").getOrCreate()
    papers = spark.read.parquet(sys.argv[1]).select("id", "title", "abstract")
    schema = "id string, journals array<string>, scores array<double>, error string"
    papers.mapInArrow(rank_partition, schema).write.parquet(sys.argv[2])
