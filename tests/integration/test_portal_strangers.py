"""What strangers may do to a portal: it goes on answering everybody else."""

from __future__ import annotations

import contextlib
import io
import re
import signal
import socket
import threading
import time
import zipfile
from collections.abc import Generator
from pathlib import Path

import httpx2
import pytest

from tests.support.engine import ScriptedEngine
from tests.support.gateway import HUB, OJS, calling, paper, write_keys
from tests.support.portal_process import PortalProcess, portal_process
from tests.support.server import ValkeyProcess, free_port
from tests.support.world import KEYS, Queue, running

BOMB_PARAGRAPHS = 400_000
"""Of a Word file of 40 KB, which takes seconds to read."""


@pytest.fixture(scope="module")
def portal(shared_server: ValkeyProcess) -> Generator[PortalProcess]:
    """A portal that has few descriptors."""
    port = free_port()
    with portal_process(
        *("--redis", shared_server.url, "--namespace", KEYS.namespace),
        *("--metrics-host", "127.0.0.2", "--metrics-port", str(port)),
        open_files=300,
    ) as process:
        process.probes = f"http://127.0.0.2:{port}"
        yield process


def connected(portal: PortalProcess, source: str = "127.0.0.1") -> socket.socket:
    host, port = re.findall(r"http://([\d.]+):(\d+)", portal.url)[0]
    return socket.create_connection((host, int(port)), timeout=30, source_address=(source, 0))


def test_silent_connections_keep_nobody_out(portal: PortalProcess) -> None:
    with contextlib.ExitStack() as stack:
        # From as many addresses as it takes to fill all places.
        for number in range(600):
            with contextlib.suppress(OSError):
                stack.enter_context(connected(portal, f"127.0.1.{number % 20 + 1}"))
        assert httpx2.get(f"{portal.url}/v1/service").status_code == 200
        assert httpx2.get(f"{portal.url}/healthz").status_code == 200
        assert httpx2.get(f"{portal.probes}/healthz").status_code == 200
    said = [line for line in portal.log if "refused" in line or "descriptor" in line]
    assert len(said) <= 2, said[:5]


def test_one_address_has_a_share_of_the_connections(portal: PortalProcess) -> None:
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connected(portal, "127.0.3.1")) for _ in range(60)]
        closed = 0
        for one in silent:
            one.settimeout(1)
            with contextlib.suppress(TimeoutError):
                closed += one.recv(1) == b""
            if closed:
                break
        assert closed
        with connected(portal, "127.0.3.2") as other:
            other.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert other.recv(100).startswith(b"HTTP/1.1 200")


def test_a_head_that_never_ends_is_cut_off(portal: PortalProcess) -> None:
    with connected(portal) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        with contextlib.suppress(OSError):
            for number in range(4000):
                stranger.sendall(b"X-%d: %s\r\n" % (number, b"y" * 100))
        answer = b""
        with contextlib.suppress(OSError):
            answer = stranger.recv(100)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    assert httpx2.get(f"{portal.url}/healthz").status_code == 200


def test_a_body_in_bytes_is_refused(portal: PortalProcess) -> None:
    with connected(portal) as stranger:
        stranger.sendall(
            b"POST /v1/rankings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        with contextlib.suppress(OSError):
            for _ in range(200):
                stranger.sendall(b"1\r\n \r\n" * 100)
        answer = b""
        with contextlib.suppress(OSError):
            answer = stranger.recv(100)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    whole = httpx2.post(
        f"{portal.url}/v1/rankings?wait_s=0",
        content=(part for part in [b'{"title": "Graphs of waves",', b' "abstract": "We study."}']),
        headers={"Content-Type": "application/json"},
    )
    assert whole.status_code == 202, whole.text  # chunks as such are fine


def test_probes_have_an_address_and_limits_of_their_own(portal: PortalProcess) -> None:
    before = len(list(Path(f"/proc/{portal.process.pid}/task").iterdir()))
    host, port = re.findall(r"http://([\d.]+):(\d+)", portal.probes)[0]
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_connection((host, int(port))))
        text = httpx2.get(f"{portal.probes}/metrics").text
        assert "xuankan_portal_requests_total" in text
        assert httpx2.get(f"{portal.probes}/readyz").status_code == 200
        assert httpx2.get(f"{portal.probes}/").status_code == 404
        assert len(list(Path(f"/proc/{portal.process.pid}/task").iterdir())) < before + 20


async def test_a_full_server_lets_callers_fetch_and_take_back(
    server_url: str, queue: Queue, tmp_path: Path
) -> None:
    async with (
        calling(server_url, OJS, keys_file=write_keys(tmp_path)) as client,
        running(server_url, ScriptedEngine()),
    ):
        done = await client.post("/v1/rankings?wait_s=30", json=paper(1))
        assert done.status_code == 200
    async with calling(server_url, OJS, keys_file=write_keys(tmp_path)) as client:
        waiting = await client.post("/v1/rankings?wait_s=0", json=paper(2))
        await queue.command("CONFIG", "SET", "maxmemory", "1mb")
        try:
            kept = await client.get(done.headers["location"])
            gone = await client.delete(waiting.headers["location"])
            refused = await client.post("/v1/rankings", json=paper(3))
        finally:
            await queue.command("CONFIG", "SET", "maxmemory", "0")
    assert kept.status_code == 200
    assert gone.status_code == 204
    assert (refused.status_code, refused.json()["code"]) == (503, "queue_full")


def bomb() -> bytes:
    """A small Word file that takes seconds to read."""
    file = io.BytesIO()
    name = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    paragraphs = "<w:p><w:r><w:t>a</w:t></w:r></w:p>" * BOMB_PARAGRAPHS
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "word/document.xml", f'<w:document xmlns:w="{name}"><w:body>{paragraphs}</w:body></w:document>'
        )
        archive.writestr("[Content_Types].xml", "<Types/>")
    return file.getvalue()


def children(portal: PortalProcess) -> int:
    count = 0
    for task in Path(f"/proc/{portal.process.pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
            count += len((task / "children").read_text().split())
    return count


def test_heavy_files_of_one_caller_hold_up_no_other_and_end_with_their_caller(
    shared_server: ValkeyProcess, tmp_path: Path
) -> None:
    keys = str(write_keys(tmp_path))
    with portal_process(
        *("--redis", shared_server.url, "--namespace", KEYS.namespace, "--keys", keys)
    ) as portal:
        heavy = bomb()
        hub, ojs = {"X-API-Key": HUB}, {"X-API-Key": OJS}

        def drop() -> None:
            with contextlib.suppress(httpx2.HTTPError):
                httpx2.post(f"{portal.url}/v1/extract?name=a.docx", content=heavy, headers=hub, timeout=1.5)

        droppers = [threading.Thread(target=drop) for _ in range(3)]
        for dropper in droppers:
            dropper.start()
        while children(portal) < 1:
            assert portal.process.poll() is None
        light = httpx2.post(
            f"{portal.url}/v1/extract?name=a.txt",
            content=b"A title of waves\n\nAn abstract of some words.",
            headers=ojs,
            timeout=60,
        )
        assert light.status_code == 200, light.text
        for dropper in droppers:
            dropper.join()
        # They hung up after a second and a half: nobody reads for them any more.
        patience_s = time.monotonic() + 10
        while children(portal):
            assert time.monotonic() < patience_s


def test_waiting_files_are_told_to_come_again_when_the_portal_ends(shared_server: ValkeyProcess) -> None:
    codes: list[int] = []
    heavy = bomb()
    connected_ = threading.Barrier(7)
    with portal_process("--redis", shared_server.url, "--namespace", KEYS.namespace) as portal:

        def drop() -> None:
            with httpx2.Client(base_url=portal.url, timeout=60) as client:
                client.get("/healthz")
                connected_.wait()
                codes.append(client.post("/v1/extract?name=a.docx", content=heavy).status_code)

        droppers = [threading.Thread(target=drop) for _ in range(7)]
        for dropper in droppers:
            dropper.start()
        while children(portal) < 2:
            assert portal.process.poll() is None
        portal.process.send_signal(signal.SIGTERM)
        for dropper in droppers:
            dropper.join(60)
        assert portal.process.wait(30) == 0
    assert set(codes) <= {200, 503}, codes
    assert 503 in codes


async def test_event_streams_are_shared(server_url: str, queue: Queue) -> None:
    async with calling(server_url) as client:
        submitted = await client.post("/v1/rankings?wait_s=0", json=paper())
        events = submitted.json()["links"]["events"]
        async with contextlib.AsyncExitStack() as stack:
            codes: list[int] = []
            open_: list[object] = []  # what is collected is closed
            for _ in range(18):
                response = await stack.enter_async_context(client.stream("GET", events))
                codes.append(response.status_code)
                if response.status_code == 200:
                    lines = response.aiter_lines()
                    await anext(lines)
                    open_.append(lines)
            assert codes == [200] * 16 + [503] * 2
        again = await client.get(f"{submitted.headers['location']}?wait_s=0")
        assert again.status_code == 202
    assert await queue.left() == 1
