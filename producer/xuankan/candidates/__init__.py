"""Candidates: the cheap first stage and the filters that pick the journals to score."""

from xuankan.candidates.filters import Filters, Selection, select
from xuankan.candidates.first_stage import FirstStage

__all__ = ["Filters", "FirstStage", "Selection", "select"]
