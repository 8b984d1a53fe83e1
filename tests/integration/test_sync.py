"""The producer without `async`: in threads, in forked processes, at the end of a process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.portal import assert_right, manuscript, sync_producer, worker_process
from tests.support.server import ValkeyProcess, free_port
from xuankan import Manuscript, Outcome, SyncProducer
from xuankan.errors import (
    InputError,
    ManuscriptError,
    RequestCancelled,
    ResultUnknown,
    ServerUnavailable,
    WaitTimeout,
)


@pytest.fixture
def worker(server_url: str) -> Iterator[None]:
    with worker_process(server_url):
        yield


@pytest.fixture
def portal(server_url: str) -> Iterator[SyncProducer]:
    with sync_producer(server_url) as portal:
        yield portal


@pytest.mark.usefixtures("worker")
def test_many_threads_share_one_producer(portal: SyncProducer) -> None:
    given = [manuscript(number) for number in range(24)]
    with ThreadPoolExecutor(8) as threads:
        rankings = list(threads.map(portal.rank, given))
    for one, ranking in zip(given, rankings, strict=True):
        assert_right(ranking, one)
    assert sum(thread.name == "xuankan-producer" for thread in threading.enumerate()) == 1


@pytest.mark.usefixtures("worker")
def test_submit_and_wait(portal: SyncProducer) -> None:
    ticket = portal.submit(manuscript())
    assert_right(portal.result(ticket, timeout_s=20), manuscript())
    assert portal.cancel(ticket) == "finished"


def test_errors_are_those_of_the_asynchronous_producer(portal: SyncProducer) -> None:
    with pytest.raises(ManuscriptError):
        portal.rank(Manuscript("关于图论"))
    ticket = portal.submit(manuscript())
    with pytest.raises(WaitTimeout):
        portal.result(ticket, timeout_s=0.05)
    assert portal.cancel(ticket) == "cancelled"
    with pytest.raises(RequestCancelled):
        portal.result(ticket)
    with pytest.raises(ResultUnknown):
        portal.result("no-such-request")


@pytest.mark.parametrize("url", ["http://localhost", "localhost:6379", "redis://localhost:port"])
def test_what_is_no_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(InputError, match="url"):
        SyncProducer(url)


@pytest.mark.usefixtures("worker")
def test_rank_many_takes_manuscripts_in_the_callers_thread(portal: SyncProducer) -> None:
    taken: list[int] = []

    def source() -> Iterator[Manuscript]:
        for number in range(20):
            assert threading.current_thread() is threading.main_thread()
            taken.append(number)
            yield manuscript(number)

    outcomes: list[Outcome] = []
    for outcome in portal.rank_many(source(), in_flight=4):
        outcomes.append(outcome)
        assert len(taken) <= len(outcomes) + 4
    assert sorted(outcome.index for outcome in outcomes) == list(range(20))
    for outcome in outcomes:
        assert outcome.ranking is not None, outcome.error
        assert_right(outcome.ranking, manuscript(outcome.index))


def test_closing_frees_whoever_waits(portal: SyncProducer) -> None:
    submitted = portal.submit(manuscript())
    failures: list[RuntimeError] = []

    def wait() -> None:
        try:
            portal.result(submitted)
        except RuntimeError as error:
            failures.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    portal.close()
    thread.join(5)
    assert "closed" in str(failures[0])
    assert portal.cancel(submitted) == "cancelled"  # a later call opens it again


def test_a_server_that_comes_later_is_found_by_a_later_call(own_server: ValkeyProcess) -> None:
    portal = sync_producer(own_server.url, server_timeout_s=0.5)
    started_s = time.monotonic()
    with pytest.raises(ServerUnavailable, match="Is the server running"):
        portal.submit(manuscript())
    assert time.monotonic() - started_s < 15  # half of the default
    own_server.start()
    assert portal.submit(manuscript()).new
    portal.close()


def _in_child(act: Callable[[], None]) -> int:
    """Run in a forked child; returns its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            act()
            status = 0
        finally:
            os._exit(status)
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    raise AssertionError("the child hung")


# Forking with threads alive is what pre-forking servers with a warmed application do.
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.usefixtures("worker")
def test_a_producer_works_on_both_sides_of_a_fork(server_url: str) -> None:
    used, unused = sync_producer(server_url), sync_producer(server_url)

    def act() -> None:
        for number in range(3):
            assert_right(used.rank(manuscript(number)), manuscript(number))
            assert_right(unused.rank(manuscript(number)), manuscript(number))
        used.close()

    assert_right(used.rank(manuscript(9)), manuscript(9))
    stop = threading.Event()

    def keep_busy() -> None:  # so that forks find locks and sockets in use
        while not stop.is_set():
            used.rank(manuscript(1))

    busy = threading.Thread(target=keep_busy)
    busy.start()
    try:
        assert [_in_child(act) for _ in range(3)] == [0, 0, 0]
    finally:
        stop.set()
        busy.join(20)
    assert not busy.is_alive()
    assert_right(used.rank(manuscript(5)), manuscript(5))
    used.close()
    unused.close()


_SCRIPT = """
import contextlib, threading
from tests.support.portal import manuscript, sync_producer

portal = sync_producer({url!r}, server_timeout_s=60)

def wait():
    # What it raises at the end is not printed: Python aborts if a thread is in the middle of that.
    with contextlib.suppress(BaseException):
        portal.rank(manuscript())

thread = threading.Thread(target=wait, daemon=True)
thread.start()
thread.join(0.5)
print("end", flush=True)
"""


@pytest.mark.parametrize("there", [True, False])
def test_a_process_ends_although_a_call_still_waits(server_url: str, there: bool) -> None:
    url = server_url if there else f"redis://127.0.0.1:{free_port()}"
    ended = subprocess.run(
        [sys.executable, "-c", _SCRIPT.format(url=url)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "end\n"
