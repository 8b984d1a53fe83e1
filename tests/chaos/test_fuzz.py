"""The short version of `make fuzz`."""

from __future__ import annotations

from tests.chaos.fuzz import GROWTH_BYTES, SLOWEST_S, fuzz


def test_no_message_breaks_a_decoder() -> None:
    tally = fuzz(20_000, 1)
    assert not tally.crashes
    assert tally.outcomes["Request read"] > 500
    assert tally.outcomes["Result read"] > 500
    assert tally.slowest_s < SLOWEST_S
    assert tally.grown_bytes < GROWTH_BYTES
