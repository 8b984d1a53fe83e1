"""Loaded once by the fork server."""

from tests.chaos import producer, worker
from tests.chaos.world import preparer, serving

serving(worker.ROW_S)
preparer()
assert producer
