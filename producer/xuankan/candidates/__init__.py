"""Candidates: the cheap first stage and the filters that pick the journals to score."""

from xuankan.candidates.beside import first_stage_file, first_stage_of
from xuankan.candidates.filters import Filters, Selection, select
from xuankan.candidates.first_stage import FirstStage

__all__ = ["Filters", "FirstStage", "Selection", "first_stage_file", "first_stage_of", "select"]
