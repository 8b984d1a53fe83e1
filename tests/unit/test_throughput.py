"""How fast a worker says that it is."""

from __future__ import annotations

import pytest

from xuankan_worker.telemetry.throughput import Throughput


def test_a_workers_capacity_is_its_throughput_while_rows_waited() -> None:
    throughput = Throughput(0.0)
    throughput.look(1.0, 5, 0)  # idle but for a moment: says nothing of what it can do
    assert (throughput.capacity_rows_per_s, round(throughput.rows_per_s, 6)) == (0, 0.5)
    throughput.look(2.0, 50, 40)  # rows wait now, not before
    assert throughput.capacity_rows_per_s == 0
    throughput.look(3.0, 150, 40)
    assert throughput.capacity_rows_per_s == 100
    throughput.look(3.1, 150, 0)  # too soon to say
    for second in range(4, 60):
        throughput.look(float(second), 150, 0)
    assert throughput.capacity_rows_per_s == 100  # idle, not slow
    assert throughput.rows_per_s < 1
    for second in range(60, 120):
        throughput.look(float(second), 150 + 20 * (second - 59), 40)
    assert throughput.capacity_rows_per_s == pytest.approx(20, rel=0.05)  # slower now
