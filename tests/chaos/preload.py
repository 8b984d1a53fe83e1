"""Loaded once by the fork server."""

from tests.chaos import producer, worker
from tests.chaos.world import preparer, served_model

served_model(worker.ROW_S)
preparer()
assert producer
