"""A Ray Data job over a table of manuscripts.

    python ray_rerank.py IN.parquet OUT_DIRECTORY

The nodes need `pip install 'xuankan[backlog]'`, this directory and XUANKAN_REDIS (ray's `runtime_env`).
"""

import sys

import ray
import tables

if __name__ == "__main__":
    papers = ray.data.read_parquet(sys.argv[1], columns=["id", "title", "abstract"])
    ranked = papers.map_batches(tables.rank, batch_size=1024, batch_format="pyarrow")
    ranked.write_parquet(sys.argv[2])
