"""Reads a snapshot of OpenAlex (https://openalex.org, CC0) as it is published: JSON Lines, gzip.

It becomes two tables that `xuankan catalogue import` takes: journals as JSON Lines, papers as Parquet.
"""
