"""Batches on engines: the pool, rows, ranking, and the model that is served."""
