"""deploy/compose, deploy/kubernetes, deploy/systemd: valid by their schemas, and true to what Xuankan has."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import click
import pytest
import yaml
from redis import Redis

from tests.support.programs import need
from xuankan.cli.main import cli
from xuankan.embedded.servers import EmbeddedServer
from xuankan.portal.api_keys import KeyRing

DEPLOY = Path(__file__).parents[2] / "deploy"
TOOLS = Path(sys.executable).parent
Manifest = dict[str, Any]


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def manifests(text: str) -> list[Manifest]:
    return [cast("Manifest", one) for one in yaml.safe_load_all(text)]


def compose() -> Manifest:
    return cast("Manifest", yaml.safe_load((DEPLOY / "compose/compose.yml").read_text()))


@pytest.fixture(scope="module", params=["cpu", "gpu"])
def overlay(request: pytest.FixtureRequest) -> str:
    """What `kubectl apply -k` would send."""
    return run(need("kubectl"), "kustomize", DEPLOY / "kubernetes/overlays" / request.param)


@pytest.fixture(scope="module")
def secrets() -> list[Manifest]:
    return manifests(run(DEPLOY / "kubernetes/make-secrets"))


def pods(found: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    for one in found:
        if one["kind"] in ("Deployment", "StatefulSet"):
            yield one["metadata"]["name"], one["spec"]["template"]


def assert_understood(arguments: list[str]) -> None:
    """That `xuankan ARGUMENTS` has these commands and options."""
    command: click.Command = cli
    context = click.Context(cli)
    rest = list(arguments)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(context, rest.pop(0))
        assert found is not None, arguments
        command = found
    known = {"--help", *(name for parameter in command.params for name in parameter.opts)}
    assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= known, arguments


def test_the_compose_file_is_valid_and_mounts_what_is_there() -> None:
    run(TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose/compose.yml")
    for name, service in compose()["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert re.search(r":v?\d+\.\d+\.\d+(-\w+)?$", service["image"]), name
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith(".") and not source.startswith("./secrets"):
                assert (DEPLOY / "compose" / source).exists(), f"{name} mounts {source}"
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), name


def test_compose_scrapes_each_service_under_the_name_that_it_has() -> None:
    services = compose()["services"]
    scraped = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    ports = {"worker": 9107, "exporter": 9108, "portal": 9109}
    found = {
        target for job in scraped for each in job.get("static_configs", ()) for target in each["targets"]
    }
    for job in scraped:  # a name with as many addresses as there are containers
        found |= {
            f"{name}:{each['port']}" for each in job.get("dns_sd_configs", ()) for name in each["names"]
        }
    assert found == {f"{name}:{port}" for name, port in ports.items()}
    assert all(
        "worker" in services[name]["networks"]["queue"]["aliases"] for name in ("worker-cpu", "worker-gpu")
    )
    dockerfile = (DEPLOY / "images/Dockerfile").read_text()
    assert dockerfile.count('"--metrics-port", "9107"') == 2
    assert dockerfile.count('"--metrics-port", "9109"') == 1


def test_the_commands_of_the_images_are_ones_that_xuankan_has() -> None:
    dockerfile = (DEPLOY / "images/Dockerfile").read_text().replace("\\\n", "")
    commands = [
        shlex.split(re.sub(r"[\[\],]", " ", found)) for found in re.findall(r"^CMD (.*)$", dockerfile, re.M)
    ]
    assert len(commands) == 4
    commands.append(compose()["services"]["exporter"]["command"])
    for command in commands:
        assert_understood(command)


def test_setup_makes_users_that_the_queue_knows_and_a_key_that_the_portal_knows(tmp_path: Path) -> None:
    shutil.copytree(DEPLOY / "redis", tmp_path / "redis")
    shutil.copytree(DEPLOY / "compose", tmp_path / "compose", ignore=shutil.ignore_patterns("secrets"))
    said = run(tmp_path / "compose/setup")
    made = tmp_path / "compose/secrets"
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in made.glob("*.env"))

    caller = KeyRing(made / "keys.toml").caller(said.split()[-1])
    assert caller is not None
    assert caller.name == "first"

    options = ("--include", str(tmp_path / "redis/xuankan.conf"), "--aclfile", str(made / "users.acl"))
    with EmbeddedServer(tmp_path / "data", port=0, options=options) as server:
        where = urlsplit(server.tcp_url).netloc
        for user in ("producer", "worker", "operator"):
            url = (made / f"{user}.env").read_text().strip().removeprefix("XUANKAN_REDIS=")
            client = cast("Any", Redis).from_url(
                url.replace("valkey:6379", where), protocol=2, driver_info=None
            )
            with contextlib.closing(client):
                assert client.time()

    again = subprocess.run([tmp_path / "compose/setup"], capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "secrets/ is there already" in again.stderr


def test_the_overlays_and_secrets_are_valid_kubernetes(
    overlay: str, secrets: list[Manifest], tmp_path: Path
) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(overlay + "\n---\n" + yaml.safe_dump_all(secrets))
    run(TOOLS / "kubernetes-validate", "--strict", "--quiet", "-k", "1.34", file)


def test_no_pod_has_privileges(overlay: str) -> None:
    """What the namespace's label `restricted` demands, and a root that cannot be written to."""
    found = dict(pods(manifests(overlay)))
    assert found.keys() == {"worker", "exporter", "portal", "valkey"}
    for name, pod in found.items():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True, name
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
            assert "memory" in container["resources"]["limits"], name
            assert not container["image"].endswith(":latest"), name
            assert ":" in container["image"], name


def test_pods_find_their_secrets_ports_and_neighbours(overlay: str, secrets: list[Manifest]) -> None:
    found = manifests(overlay)
    keys = {(one["metadata"]["name"], key) for one in secrets for key in one["stringData"]}
    named: dict[str, set[str]] = {}
    for name, pod in pods(found):
        for container in pod["spec"]["containers"]:
            named[name] = {port["name"] for port in container["ports"]}
            for variable in container.get("env", ()):
                reference = variable["valueFrom"]["secretKeyRef"]
                assert (reference["name"], reference["key"]) in keys
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if "httpGet" in container.get(probe, {}):
                    assert container[probe]["httpGet"]["port"] in named[name]
            if name == "exporter":
                assert_understood(container["args"])
        for volume in pod["spec"].get("volumes", ()):
            if "secret" in volume:
                assert volume["secret"]["secretName"] in {secret for secret, _ in keys}
    monitored = {one["metadata"]["name"]: one["spec"] for one in found if one["kind"] == "PodMonitor"}
    assert monitored.keys() == {"worker", "exporter", "portal"}
    for name, spec in monitored.items():
        (endpoint,) = spec["podMetricsEndpoints"]
        assert endpoint["port"] in named[name]
        assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": f"xuankan-{name}"}]
    assert "xuankan/worker-gpu" not in overlay or "nvidia.com/gpu: 1" in overlay


def test_workers_are_scaled_by_a_metric_that_the_exporter_serves(overlay: str) -> None:
    (scaled,) = (one for one in manifests(overlay) if one["kind"] == "ScaledObject")
    query = scaled["spec"]["triggers"][0]["metadata"]["query"]
    (metric,) = re.findall(r"xuankan_\w+", query)
    assert metric in (DEPLOY.parent / "worker/xuankan_worker/operations/exporter.py").read_text()
    replicas = [
        one["spec"].get("replicas") for one in manifests(overlay) if one["metadata"]["name"] == "worker"
    ]
    assert set(replicas) == {None}, "a number in the Deployment would undo the scaler's at every apply"


@pytest.mark.parametrize("unit", ["xuankan-worker@.service", "xuankan-portal.service"])
def test_units_are_valid_sandboxed_and_start_what_xuankan_has(unit: str, tmp_path: Path) -> None:
    analyze = need("systemd-analyze")
    text = (DEPLOY / "systemd" / unit).read_text()
    (line,) = re.findall(r"^ExecStart=(\S+) (.*)$", text, re.MULTILINE)
    assert_understood(line[1].removesuffix(" $XUANKAN_OPTIONS").split())
    file = tmp_path / unit
    file.write_text(text.replace(line[0], sys.executable))
    run(analyze, "verify", "--man=no", file)
    run(analyze, "security", "--offline=true", "--threshold=20", file)
