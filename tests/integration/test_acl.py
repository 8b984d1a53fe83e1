"""The users of deploy/redis on real servers: what each must be able to do, and what none may."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from tests.support import portal
from tests.support.engine import ScriptedEngine
from tests.support.programs import need
from tests.support.scrape import exporting, values
from tests.support.secured import USERS, Secured, make_acl, password, secured_server
from tests.support.world import KEYS, Queue, assert_ranked, eventually, request, running
from xuankan import Producer
from xuankan.dead_letters import DeadLetters
from xuankan.embedded.servers import free_port
from xuankan.errors import ServerUnavailable
from xuankan.protocol.keys import GROUP, Keys
from xuankan.transport.client import open_client

INTERACTIVE, BULK = KEYS.stream("interactive"), KEYS.stream("bulk")
POISON = 2999


@pytest.fixture(scope="module", params=["valkey", "redis"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    binary = need("redis-server") if request.param == "redis" else None
    with secured_server(tmp_path_factory.mktemp("secured"), binary) as secured:
        yield secured


def xuankan(server: Secured, user: str, *arguments: str) -> str:
    """The command line, as a user; the password travels in the environment."""
    done = subprocess.run(
        [sys.executable, "-m", "xuankan.cli.main", *arguments, "--namespace", KEYS.namespace],
        env=os.environ | {"XUANKAN_REDIS": server.url(user), "COLUMNS": "160"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert password(user) not in done.stdout + done.stderr
    return done.stdout


async def everything(server: Secured) -> None:
    """All that producers, workers and operators do, each as its user."""
    engine = ScriptedEngine(poison=POISON)
    queue = Queue(open_client(server.url("admin")))
    # A worker that died with a request in its hands.
    asked = request()
    await queue.push(asked)
    await queue.command("XGROUP", "CREATE", INTERACTIVE, GROUP, "0", "MKSTREAM")
    await queue.command("XREADGROUP", "GROUP", GROUP, "gone", "COUNT", 1, "STREAMS", INTERACTIVE, ">")
    await queue.push_raw(b"nonsense", None)
    poisoned = request(lane="bulk", tokens=[POISON])
    await queue.push(poisoned)
    async with (
        portal.producer(server.url("producer")) as producer,
        running(server.url("worker"), engine, lease_s=0.3) as worker,
    ):
        portal.assert_right(await producer.rank(portal.manuscript()), portal.manuscript())
        ticket = await producer.submit(portal.manuscript(1), request_id="chosen")
        portal.assert_right(await producer.result(ticket), portal.manuscript(1))
        assert not (await producer.submit(portal.manuscript(1), request_id="chosen")).new
        assert_ranked(await queue.result(asked), asked)
        assert (await queue.result(poisoned)).status == "failed"
        await eventually(lambda: is_long(queue, KEYS.dead, 2))
        await eventually(lambda: has(queue, KEYS.worker("worker-1")))
        await operate(server, poisoned.id)
        await producer.pressure()  # asks for the workers' names
        await eventually(lambda: has_asked_workers(producer, server))
        engine.gate.clear()
        waiting = [await producer.submit(portal.manuscript(place)) for place in range(3)]
        assert await producer.cancel(waiting[0]) == "cancelled"
        engine.gate.set()
        for place, ticket in list(enumerate(waiting))[1:]:
            portal.assert_right(await producer.result(ticket), portal.manuscript(place))
        await eventually(lambda: are_consumers(queue, {"worker-1"}))
        worker.stop()
        await worker.wait()
    await queue.client.aclose()


async def operate(server: Secured, dead: str) -> None:
    async def command(*arguments: str) -> str:
        return await asyncio.to_thread(xuankan, server, "operator", *arguments)

    assert "worker-1" in await command("worker", "status")
    assert "undecodable" in await command("dead", "list")
    assert "engine_error" in await command("dead", "show", dead)
    assert "queued" in await command("dead", "retry", dead)
    assert "deleted" in await command("dead", "purge", "--all", "--yes")
    async with exporting(server.url("operator")) as exporter:
        await eventually(lambda: tells(exporter.port, "xuankan_queue_oldest_seconds{lane=bulk}"))
        assert await tells(exporter.port, "xuankan_server_memory_used_bytes")


async def tells(port: int, sample: str) -> bool:
    return sample in await values(port)


async def has_asked_workers(producer: Producer, server: Secured) -> bool:
    await producer.pressure()
    return "mget" in server.used()


async def has(queue: Queue, key: str) -> bool:
    return bool(await queue.command("EXISTS", key))


async def is_long(queue: Queue, stream: str, count: int) -> bool:
    return await queue.command("XLEN", stream) == count


async def are_consumers(queue: Queue, names: set[str]) -> bool:
    rows = await queue.command("XINFO CONSUMERS", INTERACTIVE, GROUP)
    return {row["name"].decode() for row in rows} == names


def granted() -> dict[str, set[str]]:
    """Commands of each user of the template but the admin."""
    made = make_acl("n", **dict.fromkeys(("producer", "worker", "operator", "admin"), "x" * 16))
    users = {line.split()[1]: set(re.findall(r"\+([a-z|]+)", line)) for line in made.stdout.splitlines()}
    return {name: commands for name, commands in users.items() if name not in ("default", "xuankan-admin")}


async def test_everything_that_is_done_is_allowed_and_little_else(server: Secured) -> None:
    """Fails when the product begins to use a command that its users lack, or ceases to use one."""
    server.forget()
    await everything(server)
    assert server.refused() == []
    unused = {command for commands in granted().values() for command in commands} - server.used()
    # Clients ask whether idle connections still stand; `everything` may be too quick for that.
    assert unused <= {"cluster|slots", "ping"}, "no longer needed, or not done by `everything`"


@pytest.mark.parametrize("kind", ["valkey", "redis"])
async def test_on_a_cluster_the_users_suffice_too(tmp_path: Path, kind: str) -> None:
    binary = need("redis-server") if kind == "redis" else None
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with secured_server(tmp_path, binary, options) as server:
        server.command("admin", "CLUSTER ADDSLOTSRANGE", 0, 16383)
        await eventually(lambda: serves_all_slots(server))
        server.forget()
        urls = {user: server.url(user).replace("redis:", "redis+cluster:") for user in USERS}
        async with portal.producer(urls["producer"]) as producer, running(urls["worker"], ScriptedEngine()):
            portal.assert_right(await producer.rank(portal.manuscript()), portal.manuscript())
        async with DeadLetters(urls["operator"], namespace=KEYS.namespace) as letters:
            assert [letter async for letter in letters.list()] == []
        assert "cluster|slots" in server.used()
        assert server.refused() == []


async def serves_all_slots(server: Secured) -> bool:
    return "'cluster_state': 'ok'" in str(server.command("admin", "CLUSTER INFO"))


def test_who_a_server_answers_at_all(server: Secured) -> None:
    with pytest.raises(AuthenticationError):
        server.command("producer' or 1", "PING")
    anonymous = cast(Any, Redis).from_url(re.sub("//.*@", "//", server.url("admin")), protocol=2)
    with contextlib.closing(anonymous), pytest.raises(AuthenticationError, match="uthentication required"):
        anonymous.ping()


OTHERS = Keys("other")
DENIED = {
    "producer": [
        *(f"XRANGE {stream} - +" for stream in (INTERACTIVE, BULK, KEYS.dead)),
        f"XREAD STREAMS {INTERACTIVE} 0",
        f"XREADGROUP GROUP {GROUP} me STREAMS {INTERACTIVE} >",
        f"XAUTOCLAIM {INTERACTIVE} {GROUP} me 0 0",
        *(
            f"XLEN {KEYS.dead}",
            f"DEL {INTERACTIVE}",
            f"XTRIM {INTERACTIVE} MAXLEN 0",
            f"DEL {KEYS.result('x')}",
        ),
        *(f"RENAME {INTERACTIVE} {KEYS.ticket('x')}", f"COPY {INTERACTIVE} {KEYS.ticket('x')}"),
        *(f"DUMP {INTERACTIVE}", f"SET {KEYS.worker('x')} 1", f"SUBSCRIBE {KEYS.cancellations}"),
        *(f"HMGET {OTHERS.result('x')} body", f"BLMPOP 1 1 {OTHERS.reply('x')} LEFT"),
        f"XADD {OTHERS.stream('bulk')} * id x",
    ],
    "worker": [
        *(f"XRANGE {KEYS.dead} - +", f"XADD {INTERACTIVE} * id x", f"HGETALL {KEYS.result('x')}"),
        *(f"DEL {KEYS.result('x')}", f"SET {KEYS.ticket('x')} 1", f"BLMPOP 1 1 {KEYS.reply('x')} LEFT"),
        *(f"{command} {KEYS.result('x')} body" for command in ("HGET", "HMGET", "HEXISTS")),
        *(f"PUBLISH {KEYS.cancellations} x", f"XGROUP DESTROY {INTERACTIVE} {GROUP}", "INFO memory"),
        f"XREADGROUP GROUP {GROUP} me STREAMS {OTHERS.stream('bulk')} >",
    ],
    "operator": [
        *(f"XREADGROUP GROUP {GROUP} me STREAMS {INTERACTIVE} >", f"XRANGE {INTERACTIVE} - +"),
        *(f"BLMPOP 1 1 {KEYS.reply('x')} LEFT", f"HGETALL {KEYS.result('x')}", f"XRANGE {OTHERS.dead} - +"),
        *(f"{command} {KEYS.result('x')} body" for command in ("HGET", "HMGET", "HSTRLEN")),
    ],
}
NOBODYS = [
    *("FLUSHALL", "FLUSHDB", "KEYS *", "SCAN 0", "RANDOMKEY", "DBSIZE", "MONITOR", "SHUTDOWN NOSAVE", "SAVE"),
    *(
        "CONFIG GET *",
        "CONFIG SET maxmemory 1",
        "ACL LIST",
        "ACL WHOAMI",
        "CLIENT LIST",
        "CLIENT KILL TYPE normal",
    ),
    *("SCRIPT FLUSH", "SCRIPT KILL", "FUNCTION LIST", "MODULE LIST", "SLOWLOG GET"),
    *("REPLICAOF NO ONE", "SELECT 1", "SWAPDB 0 1", "MIGRATE h 1 k 0 1", "LATENCY LATEST", "COMMAND COUNT"),
]


REFUSED = (
    r"(?i)no permissions|the user executing the script can't (run|access)|ACL failure|not allowed from script"
)


def outcome(server: Secured, user: str, *command: Any) -> object:
    try:
        return server.command(user, *command)
    except ResponseError as error:
        return error


@pytest.mark.parametrize("user", sorted(DENIED))
def test_what_each_user_may_not(server: Secured, user: str) -> None:
    for command in DENIED[user] + NOBODYS:
        assert isinstance(outcome(server, user, *command.split()), NoPermissionError), command


@pytest.mark.parametrize("user", ["producer", "worker", "operator"])
def test_a_script_can_do_nothing_that_its_caller_cannot(server: Secured, user: str) -> None:
    """EVAL is allowed, on keys of the namespace; inside, the server asks for the caller's leave again."""
    entry = server.command("admin", "XADD", INTERACTIVE, "*", "request", "somebody's")
    others = OTHERS.stream("bulk")
    for script, key in (
        ("return redis.call('FLUSHALL')", INTERACTIVE),
        ("return redis.call('CONFIG', 'GET', '*')", INTERACTIVE),
        ("return redis.call('KEYS', '*')", INTERACTIVE),
        ("return redis.call('DEL', KEYS[1])", INTERACTIVE),
        ("return redis.call('XREAD', 'STREAMS', KEYS[1], '0')", INTERACTIVE),
        (f"return redis.call('XADD', '{others}', '*', 'a', 'b')", INTERACTIVE),  # a key that was not named
        ("return redis.call('XLEN', KEYS[1])", others),
    ):
        assert re.search(REFUSED, str(outcome(server, user, "EVAL", script, 1, key))), script
    if user != "worker":
        reading = ("EVAL", "return redis.call('XRANGE', KEYS[1], '-', '+')", 1, INTERACTIVE)
        assert re.search(REFUSED, str(outcome(server, user, *reading)))
    assert server.command("admin", "XDEL", INTERACTIVE, entry) == 1


async def test_a_refused_user_is_told_so_without_its_password(server: Secured) -> None:
    wrong = server.url("producer").replace(password("producer"), "wrong-password")
    with pytest.raises(ServerUnavailable) as caught:
        async with portal.producer(wrong):
            pass
    assert "refuses" in str(caught.value)
    assert "wrong-password" not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(ServerUnavailable, match=REFUSED):
        async with portal.producer(server.url("worker")) as producer:
            await producer.submit(portal.manuscript())


def test_make_acl_says_what_is_wrong() -> None:
    passwords = dict.fromkeys(("producer", "worker", "operator", "admin"), "a" * 32)
    assert (
        "XUANKAN_WORKER_PASSWORD has fewer than 16" in make_acl("x", **passwords | {"worker": "short"}).stderr
    )
    assert "namespace" in make_acl("a:b", **passwords).stderr
    made = make_acl("portal-7", **passwords).stdout
    assert "a" * 32 not in made
    assert "{portal-7:*}:queue:*" in made
    assert not re.search(r"NAMESPACE|SHA256", made)


def test_the_servers_settings_keep_what_was_accepted(server: Secured) -> None:
    for name, value in {
        "appendonly": "yes",
        "maxmemory-policy": "noeviction",
        "protected-mode": "yes",
        "enable-debug-command": "no",
        "save": "",
    }.items():
        assert server.command("admin", "CONFIG GET", name)[name] == value
