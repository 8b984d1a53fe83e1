"""What is no call, and what never becomes one: refused, while others are answered."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Generator

import httpx2
import pytest

from tests.support.gateway import gateway, paper, serving
from tests.support.portal_process import PortalProcess, portal_process
from tests.support.server import ValkeyProcess
from tests.support.world import KEYS

CHUNKED = (
    b"POST /v1/rankings HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
GET = b"GET /v1/service HTTP/1.1\r\nHost: a\r\n"


@pytest.fixture(scope="module")
def portal(shared_server: ValkeyProcess) -> Generator[PortalProcess]:
    arguments = ("--redis", shared_server.url, "--namespace", KEYS.namespace)
    with portal_process(*arguments, open_files=300) as process:
        yield process


def connected(portal: PortalProcess, source: str = "127.0.0.1") -> socket.socket:
    port = int(portal.url.rpartition(":")[2])
    connection = socket.create_connection(("127.0.0.1", port), 30, source_address=(source, 0))
    connection.settimeout(30)
    return connection


def exchange(portal: PortalProcess, sent: bytes) -> bytes:
    """All that is heard until the portal closes the connection."""
    heard = b""
    with connected(portal) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(sent)
        while part := connection.recv(65536):
            heard += part
    return heard


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(GET + b"X: y\r\n" * 200 + b"\r\n", id="many headers"),
        pytest.param(GET + b"X: " + b"y" * 40_000 + b"\r\n\r\n", id="a long header"),
        pytest.param(GET + b"X: " + b"y" * 40_000, id="a header without an end"),
        pytest.param(b"GET /" + b"y" * 40_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", id="a long target"),
        pytest.param(CHUNKED + b"0\r\n" + b"X: y\r\n" * 200, id="many trailers"),
        pytest.param(CHUNKED + b"0\r\nX: " + b"y" * 800_000, id="a trailer without an end"),
        pytest.param(CHUNKED + b"1;" + b"y" * 800_000, id="a chunk's extension without an end"),
        pytest.param((GET + b"\r\n") * 500, id="many at a time"),
        pytest.param(GET + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", id="two lengths"),
        pytest.param(
            GET + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", id="length and chunks"
        ),
        pytest.param(GET + b"Transfer-Encoding: chunked, identity\r\n\r\n", id="chunks not last"),
        pytest.param(GET + b"Content-Length: -1\r\n\r\n", id="negative length"),
        pytest.param(GET + b"X : y\r\n\r\n", id="space before a colon"),
        pytest.param(GET + b"X: a\nY: b\r\n\r\n", id="bare line feed"),
        pytest.param(b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", id="CONNECT"),
        pytest.param(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", id="not ASCII"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", id="TLS"),
    ],
)
def test_it_is_refused_and_the_connection_closed(portal: PortalProcess, sent: bytes) -> None:
    heard = exchange(portal, sent)
    assert b"HTTP/1.1 400 " in heard or heard == b"", heard[:200]  # a reset may come before the answer
    assert b"500 Internal" not in heard
    assert httpx2.get(f"{portal.url}/healthz", timeout=10).status_code == 200


def test_whoever_only_begins_makes_room(portal: PortalProcess) -> None:
    """Heads that are begun, from several addresses, and more of them than there may be connections."""
    with contextlib.ExitStack() as stack:
        for number in range(250):
            stranger = stack.enter_context(connected(portal, f"127.0.1.{number % 6 + 1}"))
            stranger.sendall(GET + b"X: ")
        for _ in range(5):
            assert httpx2.get(f"{portal.url}/healthz", timeout=5).status_code == 200


@pytest.mark.parametrize(
    "target",
    [
        "/page/%2e%2e/app.py",
        "/page/..%2fapp.py",
        "/page//etc/passwd",
        "/page/%00",
        "/v1/journals/%0d%0aX:%20y",
    ],
)
def test_odd_targets_are_not_found(portal: PortalProcess, target: str) -> None:
    heard = exchange(portal, f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    assert heard.startswith(b"HTTP/1.1 404 "), heard[:200]
    assert b"\r\nX: y" not in heard.partition(b"\r\n\r\n")[0]


@pytest.mark.parametrize(
    "name", ["a%0d%0aSet-Cookie:%20x=1.bib", "..%2f..%2fa.bib", "a.bib%00.exe", "-rf.bib"]
)
def test_odd_names_of_files_do_no_harm(portal: PortalProcess, name: str) -> None:
    entry = b"@article{a, title={On graphs}, abstract={We bound the chromatic number of graphs.}}"
    answer = httpx2.post(f"{portal.url}/v1/extract?name={name}", content=entry, timeout=30)
    assert answer.status_code in (200, 422), answer.text
    assert "set-cookie" not in answer.headers


def test_long_words_cost_nothing(portal: PortalProcess) -> None:
    body = {"title": "On graphs and waves", "abstract": "x" * 99_000}
    assert httpx2.post(f"{portal.url}/v1/rankings?wait_s=0", json=body, timeout=30).status_code in (202, 422)


def test_bodies_that_are_still_sent_at_the_end_are_told_to_come_again(shared_server: ValkeyProcess) -> None:
    heads = [
        "POST /v1/extract?name=a.bib HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n@article",
        'POST /v1/rankings HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"title',
    ]
    arguments = ("--redis", shared_server.url, "--namespace", KEYS.namespace)
    with portal_process(*arguments) as portal, contextlib.ExitStack() as stack:
        callers = [stack.enter_context(connected(portal)) for _ in range(12)]
        for number, caller in enumerate(callers):
            caller.sendall(heads[number % 2].encode())
        # Bytes that came before a later call's are read before it is answered.
        assert httpx2.get(f"{portal.url}/v1/service", timeout=10).status_code == 200
        portal.process.send_signal(signal.SIGTERM)
        answers = [caller.recv(10_000).lower() for caller in callers]
        assert portal.process.wait(20) == 0, portal.log
    assert [answer[:13] for answer in answers] == [b"http/1.1 503 "] * 12
    assert all(b"retry-after: " in answer for answer in answers)


async def test_bodies_together_are_bounded(server_url: str) -> None:
    of = gateway(server_url)
    assert of.uploads.take("others", 2**26)
    assert of.uploads.take("some more", 2**26 - 100)
    with serving(of) as url:
        async with httpx2.AsyncClient(base_url=url, timeout=30) as client:
            large = await client.post("/v1/rankings?wait_s=0", json=paper(abstract="graphs " * 100))
            assert (large.status_code, large.json()["code"]) == (503, "unavailable"), large.text
    assert of.uploads.used == 2**27 - 100
