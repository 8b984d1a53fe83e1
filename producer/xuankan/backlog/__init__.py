"""Bulk re-ranking of backlogs: files of manuscripts in, a file of rankings out (`xuankan rerank`).

sources    which files, how many rows each, what is in them
lines, references, parquet   read one format each
rows       one manuscript of a backlog, from columns under many names
pipeline   rows through the queue: many in flight, rankings in the order of the rows
writers    rankings as JSON lines, CSV or Parquet
results    rankings that are on disk leave the server
job        what is on disk, so that a killed job goes on where it was
rerank     all of it together
"""
