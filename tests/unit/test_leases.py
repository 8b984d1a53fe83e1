"""Which entries were given up, judged by signs and a clock of one's own."""

from __future__ import annotations

from xuankan.protocol.leases import NOBODY
from xuankan_worker.consumer.leases import Leases
from xuankan_worker.in_flight import EntryKey
from xuankan_worker.queue.streams import Pending

KEY = EntryKey("interactive", "1-1")


def row(sign: int, *, owner: str = "other", deliveries: int = 1, idle_s: float = 0.1) -> Pending:
    return Pending(KEY, owner, deliveries, sign, idle_s)


def looks(leases: Leases, rows: list[Pending], step_s: float = 1.0) -> list[int]:
    """The looks, a step apart, at which the entry counted as given up."""
    found: list[int] = []
    for number, one in enumerate(rows):
        if leases.look("interactive", [one], (), number * step_s):
            found.append(number)
    return found


def test_an_entry_whose_sign_stays_for_a_lease_is_given_up() -> None:
    assert looks(Leases(5), [row(7) for _ in range(8)]) == [5, 6, 7]
    assert looks(Leases(5), [row(7 + number % 2) for number in range(8)]) == [5, 6, 7]  # read twice


def test_one_whose_sign_changes_is_not() -> None:
    assert looks(Leases(5), [row(1000 * number) for number in range(20)]) == []
    assert looks(Leases(5), [row(7, deliveries=number) for number in range(20)]) == []


def test_idle_time_that_the_server_tells_does_not_matter() -> None:
    assert looks(Leases(5), [row(1000 * number, idle_s=3600) for number in range(20)]) == []  # set forward
    assert looks(Leases(5), [row(-1, idle_s=0) for _ in range(7)]) == [5, 6]  # set back


def test_while_nobody_could_look_little_time_passed() -> None:
    leases = Leases(30)
    assert leases.look("interactive", [row(7)], (), 0) == []
    assert leases.look("interactive", [row(7)], (), 1000) == []
    assert leases.due_s() == 27


def test_what_is_our_own_or_nobodys() -> None:
    leases = Leases(30)
    assert leases.look("interactive", [row(7)], {KEY}, 0) == []
    assert leases.due_s() == float("inf")
    assert leases.look("interactive", [row(7, owner=NOBODY)], (), 1) == [row(7, owner=NOBODY)]
