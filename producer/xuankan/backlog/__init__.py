"""Bulk re-ranking of backlogs: files of manuscripts in, a file of rankings out (`xuankan rerank`).

sources    which files, how many rows each, what is in them; `xuankan.documents` reads them
rows       one manuscript of a backlog, or why it cannot be read
pipeline   rows through the queue: many in flight, rankings in the order of the rows
writers, parquet   rankings as JSON lines, CSV or Parquet
results    rankings that are on disk leave the server
job        what is on disk, so that a killed job goes on where it was
rerank     all of it together
"""
