"""`xuankan portal`, as an operator runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path

import httpx2
import pytest

from tests.support.gateway import paper, write_keys
from tests.support.portal_process import COMMAND, portal_process
from tests.support.programs import need
from tests.support.server import ValkeyProcess, free_port
from tests.support.world import KEYS
from xuankan.portal.api_keys import KeyRing


def test_it_ranks_by_a_server_and_worker_of_its_own() -> None:
    with portal_process("--embedded") as portal:
        answer = httpx2.post(f"{portal.url}/v1/rankings?wait_s=60", json=paper(top_k=3), timeout=90)
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["journals"]) == 3
        portal.process.send_signal(signal.SIGTERM)
        assert portal.process.wait(20) == 0, portal.log


def test_it_ends_without_cutting_anybody_off(shared_server: ValkeyProcess) -> None:
    answers: list[httpx2.Response] = []
    streamed: list[str] = []
    with portal_process(
        "--redis", shared_server.url, "--namespace", KEYS.namespace, "--log-format", "json"
    ) as portal:

        def wait() -> None:
            answers.append(httpx2.post(f"{portal.url}/v1/rankings?wait_s=60", json=paper(1), timeout=90))

        def follow(path: str) -> None:
            with httpx2.stream("GET", portal.url + path, timeout=90) as response:
                streamed.extend(response.iter_lines())

        submitted = httpx2.post(f"{portal.url}/v1/rankings?wait_s=0", json=paper(2))
        callers = [
            threading.Thread(target=wait),
            threading.Thread(target=follow, args=(submitted.json()["links"]["events"],)),
        ]
        for caller in callers:
            caller.start()
        while httpx2.get(f"{portal.url}/v1/service").status_code != 200 or not streamed:
            assert portal.process.poll() is None
        portal.process.send_signal(signal.SIGTERM)
        for caller in callers:
            caller.join(20)
        assert portal.process.wait(20) == 0, portal.log
    assert streamed[0] == "event: queued"
    assert answers[0].status_code == 202
    assert '"event": "call"' in "".join(portal.log)
    assert "graph" not in "".join(portal.log)  # nothing of a manuscript


def test_its_metrics_are_prometheus(shared_server: ValkeyProcess) -> None:
    promtool = need("promtool")
    port = free_port()
    with portal_process("--redis", shared_server.url, "--metrics-port", str(port)) as portal:
        httpx2.get(f"{portal.url}/v1/journals")
        assert httpx2.get(f"{portal.url}/metrics").status_code == 404
        metrics = httpx2.get(f"http://127.0.0.1:{port}/metrics").text
    assert 'xuankan_portal_requests_total{method="GET",route="/v1/journals",status="200"} 1.0' in metrics
    subprocess.run([promtool, "check", "metrics"], input=metrics, text=True, check=True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "--redis URL"),
        (("--embedded", "--redis", "redis://x"), "cannot be combined"),
        (("--redis", "redis://x", "--host", "0.0.0.0"), "--keys FILE"),
        (("--redis", "redis://x", "--open", "--keys", "keys.toml"), "cannot be combined"),
        (("--redis", "redis://x", "--host", "nowhere.invalid", "--open"), "cannot listen on nowhere.invalid"),
        (("--redis", "redis://x", "--keys", "broken.toml"), "broken.toml"),
        (("new-key", "A.B"), "cannot name a key"),
    ],
)
def test_what_cannot_be_started_is_said(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    write_keys(tmp_path)
    (tmp_path / "broken.toml").write_text("[keys")
    environment = {name: value for name, value in os.environ.items() if name != "XUANKAN_REDIS"}
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert told in done.stderr


def test_a_new_key_is_shown_once_and_its_lines_let_it_in(tmp_path: Path) -> None:
    done = subprocess.run([*COMMAND, "new-key", "ojs"], capture_output=True, text=True, check=True)
    key = done.stderr.split()[-1]
    assert key not in done.stdout
    (tmp_path / "keys.toml").write_text(done.stdout)
    caller = KeyRing(tmp_path / "keys.toml").caller(key)
    assert caller is not None
    assert caller.name == "ojs"
