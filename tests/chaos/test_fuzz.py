"""The short version of `make fuzz`."""

from __future__ import annotations

from tests.chaos.fuzz import GROWTH_BYTES, SLOWEST_S, fuzz


def test_no_message_breaks_a_decoder() -> None:
    counts = fuzz(20_000, 1)
    assert not counts.crashes
    assert counts.outcomes["Request read"] > 500
    assert counts.outcomes["Result read"] > 500
    assert counts.slowest_s < SLOWEST_S
    assert counts.grown_bytes < GROWTH_BYTES
