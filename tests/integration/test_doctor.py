"""`xuankan doctor` on real servers, as the users of deploy/redis and as others."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.support.engine import ScriptedEngine
from tests.support.programs import need
from tests.support.secured import Secured, password, secured_server
from tests.support.topology import cluster
from tests.support.world import KEYS, Queue, catalogue, eventually, running
from xuankan.cli.doctor import doctor
from xuankan.embedded.servers import EmbeddedServer


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured_server(tmp_path_factory.mktemp("secured")) as server:
        yield server


def run(url: str, *arguments: str) -> Result:
    """In this process, so that the catalogue is read once for all."""
    return CliRunner().invoke(
        doctor,
        ["--namespace", KEYS.namespace, *arguments],
        env={"XUANKAN_REDIS": url, "COLUMNS": "160"},
    )


def look(url: str, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    done = run(url, "--json", *arguments)
    assert not done.stderr, done.output
    return done.exit_code, [json.loads(line) for line in done.stdout.splitlines()]


def the(found: list[dict[str, Any]], name: str) -> dict[str, Any]:
    (one,) = [one for one in found if one["name"] == name and one["area"] in ("server", "queue")]
    return one


@pytest.mark.parametrize("user", ["producer", "worker", "operator"])
def test_each_shipped_user_has_all_that_it_needs(secured: Secured, user: str) -> None:
    code, found = look(secured.url(user), "--as", user)
    assert code == 0, found
    assert the(found, "permissions")["state"] == "ok"
    assert user in the(found, "permissions")["fact"]
    assert the(found, "version")["state"] == "ok"
    assert the(found, "persistence")["state"] in ("ok", "unknown")
    assert password(user) not in str(found)


def test_the_oldest_redis_of_debian_is_understood(tmp_path: Path) -> None:
    with secured_server(tmp_path, need("redis-server")) as server:
        for user in ("producer", "worker"):
            code, found = look(server.url(user), "--as", user)
            assert code == 0, found
            assert the(found, "permissions")["state"] == "ok"
            assert the(found, "version")["fact"].startswith("Redis 7")
        assert the(look(server.url("admin"), "--as", "operator")[1], "persistence")["state"] == "ok"


def test_nothing_is_changed_and_nothing_forbidden_is_tried_in_earnest(secured: Secured) -> None:
    secured.forget()
    look(secured.url("producer"), "--as", "producer")
    assert secured.command("admin", "DBSIZE") == 0
    assert secured.used() & {"xadd", "set", "del", "hset", "xgroup|create", "flushall", "config|set"} == set()


@pytest.mark.parametrize(
    ("user", "command", "state", "words"),
    [
        ("producer", "xadd", "failure", "+xadd ~{test:0}:queue"),
        ("worker", "xclaim", "failure", "+xclaim ~{test:0}:queue"),
        ("operator", "xdel", "warning", "purge"),
    ],
)
def test_a_permission_that_was_taken_away_is_named(
    secured: Secured, user: str, command: str, state: str, words: str
) -> None:
    name = f"xuankan-{user}"
    (rule,) = [line for line in secured.command("admin", "ACL LIST") if f"user {name} " in line]
    weaker = re.sub(rf"\+{command}(?= |\))", "", rule)
    secured.command("admin", "ACL", "SETUSER", name, "reset", *_words(weaker))
    try:
        code, found = look(secured.url(user), "--as", user)
        assert code == (state == "failure")
        one = the(found, "permissions")
        assert (one["state"], words in one["fact"]) == (state, True)
        assert "make-acl" in one["remedy"]
    finally:
        secured.command("admin", "ACL LOAD")


def _words(rule: str) -> list[str]:
    """The rules of a line of ACL LIST; what is in brackets stays together."""
    found: list[str] = []
    for word in rule.split()[2:]:
        if found and found[-1].startswith("(") and not found[-1].endswith(")"):
            found[-1] += f" {word}"
        else:
            found.append(word)
    return found


def test_the_admin_sees_more_and_hears_that_it_may_too_much(secured: Secured) -> None:
    code, found = look(secured.url("admin"))
    assert code == 0
    assert the(found, "permissions")["state"] == "warning"
    assert the(found, "persistence")["fact"] == "appendonly is on, appendfsync always"
    assert "noeviction" in the(found, "memory")["fact"]


def test_a_wrong_password_is_told_from_a_server_that_is_not_there(secured: Secured) -> None:
    wrong = secured.url("producer").replace(password("producer"), "a-wrong-password")
    done = run(wrong)
    assert done.exit_code == 1
    assert "check the user and the password" in done.stdout
    assert "a-wrong-password" not in done.stdout + done.stderr
    away = run("redis://127.0.0.1:1")
    assert away.exit_code == 1
    assert "check that the server is running" in away.stdout


async def test_workers_with_another_catalogue_are_found(
    server_url: str, queue: Queue, tmp_path: Path
) -> None:
    await queue.push_raw(b"garbage", None)
    catalogue().save(tmp_path / "ours.json.gz")
    async with running(server_url, ScriptedEngine()):
        await eventually(lambda: _has_worker(queue))
        code, found = await asyncio.to_thread(look, server_url)
        assert code == 1
        assert "worker-1 has" in the(found, "same catalogue")["fact"]
        assert the(found, "dead letters")["fact"] == "1 dead letter"
        ours = ("--catalogue", str(tmp_path / "ours.json.gz"))
        _, found = await asyncio.to_thread(look, server_url, *ours)
        assert the(found, "agreement")["state"] == "ok"
        done = await asyncio.to_thread(run, server_url, *ours)
        assert "1 running" in done.stdout


async def _has_worker(queue: Queue) -> bool:
    return bool(await queue.command("EXISTS", KEYS.worker("worker-1"), KEYS.dead) == 2)


def test_a_server_that_forgets_is_a_failure_on_a_terminal() -> None:
    with EmbeddedServer(port=0) as server:
        done = run(server.tcp_url)
    assert done.exit_code == 1
    assert "✗ persistence" in done.stdout
    assert "appendonly yes" in done.stdout
    assert done.stdout.rstrip().splitlines()[-1] == "1 failure, 3 warnings"


async def test_a_node_of_a_cluster_is_recognized_and_a_cluster_is_well() -> None:
    async with cluster() as nodes:
        owner = nodes.nodes[nodes.owner]
        _, found = await asyncio.to_thread(look, owner.tcp_url)
        assert the(found, "topology")["state"] == "failure"
        assert "redis+cluster://" in the(found, "topology")["remedy"]
        _, found = await asyncio.to_thread(look, nodes.url)
        assert "a Cluster" in the(found, "topology")["fact"]
        assert the(found, "workers")["state"] == "warning"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--redis", "nowhere"), "the scheme '' is unknown"),
        (("--model", "/nowhere"), "/nowhere"),
        (("--as", "author"), "author"),
    ],
)
def test_what_cannot_be_is_refused(arguments: tuple[str, ...], words: str) -> None:
    command = [sys.executable, "-m", "xuankan.cli.main", "doctor", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
