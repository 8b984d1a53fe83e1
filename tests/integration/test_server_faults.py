"""Worker and producer while the server refuses, forgets, hangs, restarts or is cut off: one at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import shutil
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from tests.support.engine import ScriptedEngine
from tests.support.portal import assert_right, manuscript, producer
from tests.support.programs import need
from tests.support.proxy import Proxy
from tests.support.topology import tell
from tests.support.world import KEYS, eventually, running
from xuankan import Producer, Ticket
from xuankan.embedded.servers import EmbeddedServer, free_port
from xuankan.errors import ServerUnavailable
from xuankan.transport.client import open_client
from xuankan_worker.queue import connection as worker_server

STREAM = KEYS.stream("interactive")


@pytest.fixture(params=["valkey", "redis"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    binary = need("redis-server") if request.param == "redis" else None
    async with EmbeddedServer(tmp_path / "data", port=0, binary=binary) as server:
        yield server


@contextlib.asynccontextmanager
async def proxy_to(server: EmbeddedServer) -> AsyncGenerator[Proxy]:
    proxy = Proxy(_port(server))
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()


Fault = Callable[[EmbeddedServer], Awaitable[Any]]


async def _refuse_writes_of_a_replica(server: EmbeddedServer) -> None:
    await tell(server.tcp_url, "REPLICAOF", "127.0.0.1", free_port())


async def _be_master(server: EmbeddedServer) -> None:
    await tell(server.tcp_url, "REPLICAOF", "NO", "ONE")


async def _fail_to_save(server: EmbeddedServer) -> None:
    await tell(server.tcp_url, "CONFIG", "SET", "save", "3600 1")
    assert server.data_dir is not None
    shutil.rmtree(server.data_dir)  # a server whose directory is gone cannot save, and then takes nothing
    await tell(server.tcp_url, "BGSAVE")

    async def failed() -> bool:
        return (await tell(server.tcp_url, "INFO", "persistence"))["rdb_last_bgsave_status"] == "err"

    await eventually(failed)


async def _do_not_mind(server: EmbeddedServer) -> None:
    await tell(server.tcp_url, "CONFIG", "SET", "stop-writes-on-bgsave-error", "no")


async def _take_permission(server: EmbeddedServer) -> None:
    await tell(server.tcp_url, "ACL", "SETUSER", "portal", "-@all")


async def _give_permission(server: EmbeddedServer) -> None:
    await tell(server.tcp_url, "ACL", "SETUSER", "portal", "+@all")


async def _change_password(server: EmbeddedServer) -> None:
    await tell(server.tcp_url, "ACL", "SETUSER", "portal", "resetpass", ">other")
    await tell(server.tcp_url, "CLIENT", "KILL", "USER", "portal")


async def _restore_password(server: EmbeddedServer) -> None:
    await tell(server.tcp_url, "ACL", "SETUSER", "portal", "resetpass", ">secret")


async def _forget_scripts(server: EmbeddedServer) -> None:
    await tell(server.tcp_url, "SCRIPT", "FLUSH")
    await tell(server.tcp_url, "FUNCTION", "FLUSH")


async def _nothing(server: EmbeddedServer) -> None:
    del server


FAULTS = {
    "READONLY": (_refuse_writes_of_a_replica, _be_master, True),
    "MISCONF": (_fail_to_save, _do_not_mind, True),
    "NOPERM": (_take_permission, _give_permission, False),
    "WRONGPASS": (_change_password, _restore_password, False),
    "NOSCRIPT": (_forget_scripts, _nothing, None),
}
"""How it comes, how it goes, and whether a producer waits (else it says at once that it is refused; None:
nobody notices)."""


@pytest.mark.parametrize("name", FAULTS)
async def test_a_server_that_refuses(
    server: EmbeddedServer, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What was accepted is ranked once the server lets it; each side says once that it is gone, and back."""
    caplog.set_level(logging.WARNING)
    come, go, waits = FAULTS[name]
    await tell(server.tcp_url, "ACL", "SETUSER", "portal", "on", ">secret", "+@all", "~*", "&*")
    url = server.tcp_url.replace("//", "//portal:secret@")
    engine = ScriptedEngine()
    async with producer(url) as portal, running(url, engine) as worker:
        engine.gate.clear()
        first = asyncio.create_task(portal.rank(manuscript(0), candidates=3))
        await engine.wait_started()
        await come(server)
        if waits is not None:
            await eventually(lambda: worker.not_ready() is not None)
        engine.gate.set()
        second = asyncio.create_task(portal.rank(manuscript(1), candidates=3))
        if waits is False:
            with pytest.raises(ServerUnavailable, match="refuses"):
                await second
            first.cancel()  # it may have looked at the server already, and so have been refused
            await asyncio.gather(first, return_exceptions=True)
        elif waits:
            await eventually(lambda: "cannot be reached, retrying" in caplog.text)
        await go(server)
        if waits is False:
            await eventually(lambda: worker.not_ready() is None)
        else:
            assert_right(await first, manuscript(0), candidates=3)
            assert_right(await second, manuscript(1), candidates=3)
        assert_right(await portal.rank(manuscript(2), candidates=3), manuscript(2), candidates=3)
        await eventually(lambda: worker.not_ready() is None)
    assert "secret" not in caplog.text
    assert caplog.messages.count("server unavailable; waiting for it") == (waits is not None)
    assert caplog.messages.count("server available again") == (waits is not None)
    said = caplog.text.count("cannot be reached, retrying")
    assert said == caplog.text.count("is available again")
    # One that is refused may have lost the connection on which it waits for replies before it heard that.
    assert said <= 1 if waits is False else said == (waits is True)


async def test_a_server_with_no_room_for_clients(server: EmbeddedServer) -> None:
    admin = open_client(server.tcp_url, connections=1)
    command = cast(Any, admin).execute_command
    try:
        async with running(server.tcp_url, ScriptedEngine()) as worker:
            await eventually(lambda: worker.not_ready() is None)
            await command("CONFIG", "SET", "maxclients", 1)
            await command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            with pytest.raises(ServerUnavailable, match=r"did not tell the time within 0\.5 s"):
                async with producer(server.tcp_url, server_timeout_s=0.5):
                    pass
            await eventually(lambda: worker.not_ready() is not None)
            await command("CONFIG", "SET", "maxclients", 1000)
            async with producer(server.tcp_url) as portal:
                assert_right(await portal.rank(manuscript(), candidates=3), manuscript(), candidates=3)
    finally:
        await admin.aclose()


async def test_a_server_that_loads_its_data(tmp_path: Path) -> None:
    slow = ("--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024")
    async with EmbeddedServer(tmp_path, port=0, options=slow) as server:
        engine = ScriptedEngine()
        async with producer(server.tcp_url) as portal, running(server.tcp_url, engine):
            assert_right(await portal.rank(manuscript(0), candidates=3), manuscript(0), candidates=3)
            for number in range(100):
                await tell(server.tcp_url, "SET", f"filling:{number}", "x" * 1000, "EX", 600)
            await tell(server.tcp_url, "BGREWRITEAOF")
            await eventually(lambda: _is_rewritten(server))
            await asyncio.to_thread(server.kill)
            starting = asyncio.create_task(asyncio.to_thread(server.start))
            asked = asyncio.create_task(portal.rank(manuscript(1), candidates=3))
            await eventually(lambda: _is_loading(server))
            assert not asked.done()
            assert_right(await asked, manuscript(1), candidates=3)
            await starting


async def test_no_accepted_request_is_lost_when_the_server_is_killed(
    server: EmbeddedServer,
) -> None:
    """With an append-only file that is synced always, whatever moment the server dies at."""
    accepted: list[str] = []

    async def submit(portal: Producer) -> None:
        while True:
            accepted.append((await portal.submit(manuscript(), candidates=3)).request_id)

    async with producer(server.tcp_url) as portal:
        tasks = [asyncio.create_task(submit(portal)) for _ in range(8)]
        for _ in range(3):
            count = len(accepted)
            await eventually(lambda c=count: len(accepted) >= c + 30)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        queued = await tell(server.tcp_url, "XRANGE", KEYS.stream("bulk"), "-", "+")
    ids = [fields[b"id"].decode() for _, fields in queued]
    assert len(set(ids)) == len(ids), "one request was queued twice"
    assert set(accepted) <= set(ids)


async def test_stalled_connections_are_given_up_and_replaced(server: EmbeddedServer) -> None:
    """Nothing closes them, nothing comes back over them; all of them, also the idle ones, at once."""
    engine = ScriptedEngine()
    async with proxy_to(server) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0?socket_timeout=0.5"
        async with producer(url) as portal, running(url, engine):
            many = [portal.rank(manuscript(n), candidates=3) for n in range(20)]
            await asyncio.gather(*many)
            engine.gate.clear()
            waiting = asyncio.create_task(portal.rank(manuscript(20), candidates=3))
            await engine.wait_started()
            assert len(proxy.links) > 10
            for link in list(proxy.links):
                link.stall()
            started_s = time.monotonic()
            engine.gate.set()
            fresh = await portal.rank(manuscript(21), candidates=3)
            # The producer and the worker each need one timeout (0.5 s) to notice; the reply's reader, which
            # may block for 2 s, is not waited for: the producer looks for itself.
            assert time.monotonic() - started_s < 5
            assert_right(fresh, manuscript(21), candidates=3)
            assert_right(await waiting, manuscript(20), candidates=3)
            assert time.monotonic() - started_s < 8
    assert sum(rows for rows, _ in engine.batches) == 22 * 3


async def test_a_stalled_subscription_is_noticed(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_LISTEN_S", 0.05), ("_QUIET", 3), ("_SILENT", 10)):
        monkeypatch.setattr(worker_server, name, value)
    engine = ScriptedEngine(contexts=1)
    engine.gate.clear()
    async with proxy_to(server) as proxy, producer(server.tcp_url) as portal:
        url = f"redis://127.0.0.1:{proxy.port}/0?socket_timeout=0.5"
        async with running(url, engine) as worker:
            await eventually(lambda: _subscribers(server, 1))
            for link in list(proxy.links):
                link.stall()
            # Behind the stalled link the server sees nothing of the old one's end, but the new one comes.
            await eventually(lambda: _subscribers(server, 2))
            running_now = await portal.submit(manuscript(0), candidates=16, lane="interactive")
            await engine.wait_started()
            cancelled = await portal.submit(manuscript(1), candidates=16, lane="interactive")
            await eventually(lambda: worker.status().in_flight == 2)
            assert await portal.cancel(cancelled) == "cancelled"
            await eventually(lambda: worker.status().in_flight == 1)
            engine.gate.set()
            assert_right(await portal.result(running_now), manuscript(0), candidates=16)


async def test_a_reply_that_is_lost_after_the_server_obeyed_doubles_nothing(server: EmbeddedServer) -> None:
    engine = ScriptedEngine()
    async with proxy_to(server) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        async with producer(url) as portal:
            tickets: list[Ticket] = []
            # What is lost may be the reply that the script is not known, or not be of a submission.
            while not tickets or tickets[-1].new:
                assert len(tickets) < 50
                for link in list(proxy.links):
                    link.drop_reply()
                number = len(tickets)
                tickets.append(await portal.submit(manuscript(number), candidates=3, lane="interactive"))
            # The second attempt found what the first had done.
            assert await tell(server.tcp_url, "XLEN", STREAM) == len(tickets)
            engine.gate.clear()
            async with running(url, engine):
                await engine.wait_started()
                for link in list(proxy.links):
                    link.drop_reply()
                engine.gate.set()  # the commit is obeyed, and its answer is lost
                for number, ticket in enumerate(tickets):
                    assert_right(await portal.result(ticket), manuscript(number), candidates=3)
                await eventually(lambda: _is_drained(server))
    assert sum(rows for rows, _ in engine.batches) == 3 * len(tickets)


async def test_cut_connections_in_the_middle_of_everything(server: EmbeddedServer) -> None:
    engine = ScriptedEngine(row_s=0.0005)
    chance = random.Random(4)
    async with proxy_to(server) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0?socket_timeout=1"

        async def harm() -> None:
            while True:
                for link in proxy.some(0.3, chance.randrange(1 << 30)):
                    chance.choice((link.cut, link.drop_reply, link.stall))()
                await asyncio.sleep(0.1)

        async with producer(url) as portal, running(url, engine):
            harming = asyncio.create_task(harm())
            ranks = (portal.rank(manuscript(n), candidates=3) for n in range(40))
            rankings = await asyncio.gather(*ranks)
            harming.cancel()
            for number, ranking in enumerate(rankings):
                assert_right(ranking, manuscript(number), candidates=3)
            await eventually(lambda: _is_drained(server))


def _port(server: EmbeddedServer) -> int:
    return int(server.tcp_url.rpartition(":")[2])


async def _is_loading(server: EmbeddedServer) -> bool:
    try:
        return (await tell(server.tcp_url, "INFO", "persistence"))["loading"] == 1
    except OSError:
        return False
    except Exception:  # not listening yet
        return False


async def _is_rewritten(server: EmbeddedServer) -> bool:
    facts = await tell(server.tcp_url, "INFO", "persistence")
    return facts["aof_rewrite_in_progress"] == 0 and facts["aof_rewrite_scheduled"] == 0


async def _subscribers(server: EmbeddedServer, count: int) -> bool:
    return (await tell(server.tcp_url, "PUBSUB", "NUMSUB", KEYS.cancellations))[1] == count


async def _is_drained(server: EmbeddedServer) -> bool:
    return await tell(server.tcp_url, "XLEN", STREAM) == 0
