"""What `xuankan doctor` makes of the facts."""

from __future__ import annotations

import base64
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.secured import USERS, make_acl, password
from xuankan.candidates import FirstStage
from xuankan.catalogue import Catalogue, Journal
from xuankan.doctor import package, queue, server
from xuankan.doctor.findings import Finding, Role
from xuankan.doctor.needs import needs
from xuankan.doctor.package import Package
from xuankan.doctor.server import ROLES, ServerFacts
from xuankan.errors import CatalogueError
from xuankan.protocol.heartbeat import WorkerStatus
from xuankan.protocol.keys import Keys
from xuankan.protocol.queue_state import LaneState, QueueState
from xuankan.protocol.template import Template
from xuankan.transport.url import Address
from xuankan_worker.engines.tensorrt import library
from xuankan_worker.engines.tensorrt.library import GpuIdentity
from xuankan_worker.manifest import Manifest
from xuankan_worker.operations.checks import checks

KEYS = Keys("test")
INFO: dict[str, Any] = {
    "cluster_enabled": 0,
    "role": "master",
    "connected_slaves": 0,
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
    "used_memory": 2**20,
    "maxmemory": 2**30,
    "maxmemory_policy": "noeviction",
    "evicted_keys": 0,
    "connected_clients": 3,
    "maxclients": 2000,
}


def facts(url: str = "redis://127.0.0.1:6379", info: Any = None, **changes: Any) -> ServerFacts:
    values: dict[str, Any] = {
        "address": Address.parse(url),
        "round_trip_ms": 0.2,
        "product": "Valkey",
        "version": "8.1.3",
        "refused": {role: [] for role in ROLES},
        "info": INFO | (info or {}),
        "settings": {"appendfsync": "always", "min-replicas-to-write": "0"},
    }
    return ServerFacts(**(values | changes))


def the(found: list[Finding], name: str) -> Finding:
    (one,) = [one for one in found if one.name == name]
    return one


def test_a_server_as_it_should_be_gives_nothing_to_do() -> None:
    found = server.judge(facts(), None)
    assert {one.state for one in found} == {"ok"}
    assert not any(one.remedy for one in found)


@pytest.mark.parametrize(
    ("changes", "name", "state", "words"),
    [
        ({"version": "7.2.9"}, "version", "failure", "upgrade"),
        ({"product": "Redis", "version": "6.2.14"}, "version", "failure", "Redis 7.0 or Valkey 8.0"),
        ({"product": "Redis", "version": "7.0.15"}, "version", "ok", "Redis 7.0.15"),
        ({"url": "redis://queue:6379"}, "connection", "warning", "in the clear"),
        ({"url": "rediss://queue:6379"}, "connection", "ok", "rediss://queue:6379"),
        ({"url": "redis://queue:6379", "sealed": True}, "connection", "ok", "queue"),
        ({"url": "unix:///run/valkey.sock"}, "connection", "ok", "/run/valkey.sock"),
        ({"round_trip_ms": 55.0}, "connection", "warning", "near the server"),
        ({"is_admin": True}, "permissions", "warning", "make-acl"),
        ({"refused": None}, "permissions", "failure", "EVAL"),
        ({"info": {"aof_enabled": 0}}, "persistence", "failure", "appendonly yes"),
        ({"info": {"aof_last_write_status": "err"}}, "persistence", "failure", "disk"),
        ({"settings": {"appendfsync": "no"}}, "persistence", "warning", "everysec"),
        ({"settings": {"appendfsync": "everysec"}}, "persistence", "ok", "last second or two"),
        ({"settings": None}, "persistence", "ok", "only the admin"),
        ({"info": {"maxmemory": 0}}, "memory", "warning", "maxmemory is not set"),
        ({"info": {"used_memory": 2**30}}, "memory", "warning", "hold requests back"),
        (
            {"info": {"maxmemory_policy": "allkeys-lru", "evicted_keys": 12}},
            *("memory", "failure", "12 keys are gone"),
        ),
        ({"info": {"cluster_enabled": 1}}, "topology", "failure", "redis+cluster://"),
        (
            {"info": {"cluster_enabled": 1}, "url": "redis+cluster://10.0.0.1:6379"},
            *("topology", "ok", "a Cluster"),
        ),
        (
            {"info": {"role": "slave", "master_host": "10.0.0.2", "master_port": 6379}},
            *("topology", "failure", "10.0.0.2:6379"),
        ),
        ({"info": {"connected_slaves": 2}}, "topology", "warning", "min-replicas-to-write 1"),
        (
            {"info": {"connected_slaves": 1}, "settings": {"min-replicas-to-write": "1"}},
            *("topology", "ok", "1 replica"),
        ),
        ({"info": {"connected_clients": 1900}}, "clients", "warning", "maxclients"),
    ],
)
def test_what_is_wrong_with_a_server_is_named_with_its_remedy(
    changes: dict[str, Any], name: str, state: str, words: str
) -> None:
    one = the(server.judge(facts(**changes), None), name)
    assert one.state == state
    assert words in f"{one.fact} {one.remedy}"
    assert bool(one.remedy) == (state != "ok")


def test_what_may_not_be_asked_is_not_taken_for_well() -> None:
    found = server.judge(ServerFacts(Address.parse("redis://localhost"), 1.0), None)
    assert {one.name: one.state for one in found} == {
        "connection": "ok",
        "version": "unknown",
        "permissions": "failure",
        "persistence": "unknown",
        "memory": "unknown",
    }


def lacking(role: Role, *names: str) -> dict[Role, list[Any]]:
    found: dict[Role, list[Any]] = {one: [] for one in ROLES}
    found[role] = [need for need in needs(role, KEYS) if need.name in names]
    assert found[role]
    return found


def test_a_role_that_is_wanted_must_be_whole() -> None:
    refused = lacking("worker", "xclaim", "xreadgroup")
    wanted = the(server.judge(facts(refused=refused), "worker"), "permissions")
    assert wanted.state == "failure"
    assert wanted.fact == "as worker it lacks +xreadgroup ~{test:0}:queue, +xclaim ~{test:0}:queue"
    others = [one.fact for one in server.judge(facts(refused=refused), None) if one.name == "permissions"]
    assert others == ["all that a producer needs", "all that an operator needs"]


def test_what_a_role_can_do_without_is_only_a_warning() -> None:
    one = the(server.judge(facts(refused=lacking("producer", "info")), "producer"), "permissions")
    assert one.state == "warning"
    assert "not held back when the queue is full" in one.fact


def test_a_user_that_can_be_nothing_hears_what_each_role_lacks() -> None:
    refused = {role: list(needs(role, KEYS)) for role in ROLES}
    one = the(server.judge(facts(refused=refused), None), "permissions")
    assert one.state == "failure"
    for role in ROLES:
        assert f"no {role}: lacks" in one.fact


def test_needs_are_what_the_shipped_users_may() -> None:
    """Fails when the template grants something that no role is said to need, or too little."""
    made = make_acl("test", **{user: password(user) for user in USERS}).stdout
    for role in ROLES:
        (line,) = [text for text in made.splitlines() if text.startswith(f"user xuankan-{role} ")]
        granted = set(re.findall(r"\+([a-z|]+)", line)) - {"cluster|slots"}
        every = {need.name for need in needs(role, KEYS)}
        assert granted <= every
        assert {need.name for need in needs(role, KEYS) if need.lacking is None} <= granted


def queued(*workers: WorkerStatus, **changes: Any) -> QueueState:
    lanes = {"interactive": LaneState(), "bulk": LaneState(3, 1)}
    values: dict[str, Any] = {"lanes": lanes, "workers": workers, "dead": 0}
    return QueueState(**(values | changes))


OURS = Package(Catalogue.default(), Template.default(), sealed=False)
WORKER = WorkerStatus(
    name="worker-1",
    release="r",
    catalogue=Catalogue.default().version,
    template=Template.default().fingerprint,
)


def judged(seen: QueueState, role: Role | None = None) -> list[Finding]:
    return queue.judge(seen, OURS, "test", role)


def test_workers_that_fit_are_well() -> None:
    found = judged(queued(WORKER, replace(WORKER, name="b", state="draining", catalogue="old")))
    assert {one.state for one in found} == {"ok"}
    assert the(found, "workers").fact == "1 draining, 1 running; 3 requests queued or running"


@pytest.mark.parametrize("what", ["template", "catalogue"])
def test_workers_that_answer_invalid_to_everything_are_named(what: str) -> None:
    one = the(judged(queued(WORKER, replace(WORKER, name="odd", **{what: "other"}))), f"same {what}")
    assert one.state == "failure"
    assert "odd has other" in one.fact
    assert "worker-1" not in one.fact


def test_several_releases_are_a_warning() -> None:
    one = the(judged(queued(WORKER, replace(WORKER, release="s"))), "same release")
    assert (one.state, "r, s" in one.fact) == ("warning", True)


def test_no_worker_and_dead_letters_want_attention() -> None:
    found = judged(queued(dead=2))
    assert the(found, "workers").state == "warning"
    assert "namespace 'test'" in the(found, "workers").fact
    assert the(found, "dead letters").remedy.startswith("see xuankan dead list")
    assert the(judged(queued(), "worker"), "workers").state == "ok"  # it is about to be the first
    assert the(judged(queued(workers=None, dead=None)), "workers").state == "unknown"


def test_a_catalogue_of_ones_own_is_looked_through(tmp_path: Path) -> None:
    journal = Journal(id="ours", title="Ours", issns=("1234-5678",), profile="Ours. Reefs and fish.")
    Catalogue((journal,)).save(tmp_path / "ours.json.gz")
    ours, found = package.examine(tmp_path / "ours.json.gz", {}, None)
    assert ours.catalogue is not None
    well, wrong = [one for one in found if one.name == "catalogue"]
    assert well.state == "ok"
    assert "1 are ranked by their profiles alone" in the(found, "first stage").fact
    assert wrong.state == "warning"
    assert "1234-5678" in wrong.fact
    (tmp_path / "broken.json.gz").write_bytes(b"nothing")
    ours, found = package.examine(tmp_path / "broken.json.gz", {}, None)
    assert ours.catalogue is None
    assert the(found, "catalogue").state == "failure"


@pytest.mark.parametrize(("role", "state"), [("producer", "failure"), (None, "warning"), ("worker", "")])
def test_only_producers_need_what_chooses_candidates(
    monkeypatch: pytest.MonkeyPatch, role: Role | None, state: str
) -> None:
    def missing() -> FirstStage:
        raise CatalogueError("first_stage.npz: no such file")

    monkeypatch.setattr(FirstStage, "default", missing)
    _, found = package.examine(None, {}, role)
    assert [one.state for one in found if one.name == "first stage"] == ([state] if state else [])
    assert {one.state for one in found if one.name != "first stage"} == {"ok"}


def test_keys_are_checked_and_not_shown() -> None:
    key = base64.b64encode(bytes(range(32))).decode()
    ours, found = package.examine(None, {"XUANKAN_KEYS": key}, None)
    assert ours.sealed
    assert the(found, "sealing").state == "ok"
    ours, found = package.examine(None, {"XUANKAN_KEYS": "nonsense!"}, None)
    assert not ours.sealed
    assert the(found, "sealing").state == "failure"
    assert "nonsense" not in the(found, "sealing").fact


def test_the_packaged_release_runs_on_the_cpu() -> None:
    found = checks(None, Catalogue.default(), True)
    assert "failure" not in {one.state for one in found}
    assert "xuankan-minilm" in the(found, "release").fact
    assert "ONNX Runtime" in the(found, "engine").fact


def test_a_damaged_release_is_named(tmp_path: Path, release: Path) -> None:
    found = checks(tmp_path, None, True)
    assert the(found, "release").state == "failure"
    assert "is not a model release" in the(found, "release").fact
    assert the(found, "engine").state == "unknown"
    other = Catalogue((Journal(id="ours", title="Ours", profile="Ours. Reefs."),))
    notes = [one for one in checks(release, other, True) if one.name == "release"]
    assert [one.state for one in notes] == ["ok", "warning"]
    assert "xuankan model evaluate" in notes[1].remedy


def test_a_release_may_have_nothing_but_engines(tmp_path: Path, release: Path) -> None:
    directory = tmp_path / "release"
    shutil.copytree(release, directory)
    graph = directory / next(iter(Manifest.load(directory).files))
    graph.unlink()
    assert the(checks(directory, None, True), "release").state == "failure"
    plan = directory / "engines" / "of-some-gpu" / "engine.json"
    plan.parent.mkdir(parents=True)
    plan.touch()
    found = checks(directory, None, True)
    assert the(found, "release").state == "ok"
    assert f"without {graph.name}" in the(found, "release").fact
    assert the(found, "engine").state == "failure"  # no GPU here


def test_a_gpu_without_an_engine_for_it_says_how_to_build_one(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = GpuIdentity("NVIDIA H200", "9.0", "580.95.05")
    monkeypatch.setattr("xuankan_worker.operations.checks.find_gpu", lambda: gpu)
    found = checks(None, Catalogue.default(), True)
    assert the(found, "GPU").fact == "NVIDIA H200, compute capability 9.0, driver 580.95.05"
    assert the(found, "engine").state == "warning"
    assert "the GPU is not used" in the(found, "engine").fact
    assert "xuankan model build" in the(found, "engine").remedy
    for one in library.installed_libraries():
        assert one.version in " ".join(part.fact for part in found)


def test_a_producers_machine_needs_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(module: str) -> bool:
        del module
        return False

    monkeypatch.setattr("xuankan_worker.operations.checks._is_installed", nothing)
    monkeypatch.setattr("xuankan_worker.operations.checks.installed_libraries", list)
    (one,) = checks(None, None, False)
    assert (one.state, "producers do not need one" in one.fact) == ("ok", True)
    engine = the(checks(None, None, True), "engine")
    assert engine.state == "failure"
    assert "pip install 'xuankan[cpu]'" in engine.remedy
