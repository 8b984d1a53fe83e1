"""Passwords, keys and the contents of manuscripts: in no log, error, traceback, status or metric."""

from __future__ import annotations

import asyncio
import logging
import traceback
import urllib.request
from typing import Any

import msgpack
import numpy as np
import pytest

from tests.support import portal
from tests.support.engine import ScriptedEngine
from tests.support.world import Queue, config, eventually, request, running
from xuankan import Manuscript
from xuankan.errors import InputError, RequestFailed, ServerUnavailable, XuankanError
from xuankan.logs import JsonFormatter, TextFormatter
from xuankan.protocol.sealing import Sealer
from xuankan.transport.client import describe, open_client

CANARY = "zirconium turquoise"
PASSWORD = "hunter2-of-the-queue"
POISON = 2999


def test_manuscripts_and_requests_do_not_show_their_contents() -> None:
    manuscript = Manuscript(CANARY, f"On {CANARY}.", (CANARY,))
    assert CANARY not in repr(manuscript)
    assert "tokens" not in repr(request(tokens=[5, 6, 7]))
    assert PASSWORD not in repr(config(f"redis://:{PASSWORD}@queue/0", sealer=Sealer([b"k" * 32])))
    assert "kkkk" not in repr(config("redis://queue", sealer=Sealer([b"k" * 32])))


@pytest.mark.parametrize(
    "url",
    [
        f"redis://user:{PASSWORD}@queue:bad/0",
        f"redis://user:{PASSWORD}@queue:99999/0",
        f"redis://:{PASSWORD}/x@queue:6379/0",
        f"redis://:x/{PASSWORD}@queue:6379/0",
        f"redis://:x/1/{PASSWORD}@queue:6379/0",
        f"redis://:x?{PASSWORD}@queue:6379/0",
        f"redis://:x#{PASSWORD}@queue:6379/0",
        f"redis://:[{PASSWORD}@queue:6379/0",
        f"http://user:{PASSWORD}@queue",
        f"redis://user:{PASSWORD}@queue/zero",
        f"redis://user:{PASSWORD}@queue/0?socket_timeout=never",
        f"redis://user:{PASSWORD}@queue/0?unknown=1",
        f"rediss://queue?ssl_ca_certs=/nowhere&password={PASSWORD}",
    ],
)
def test_an_unusable_url_is_explained_without_its_password(url: str) -> None:
    with pytest.raises(InputError, match=r"^url: ") as caught:
        open_client(url)
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


def test_a_url_is_described_without_secrets() -> None:
    for url in (f"redis://user:{PASSWORD}@queue/1", f"rediss://queue/1?password={PASSWORD}"):
        assert describe(url).endswith("://queue:6379/1")


async def test_a_server_that_is_away_is_named_without_its_password(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    url = f"redis://user:{PASSWORD}@127.0.0.1:1/0"
    with pytest.raises(ServerUnavailable) as caught:
        async with portal.producer(url, server_timeout_s=0.2):
            pass
    async with running(url, ScriptedEngine()):
        await eventually(lambda: "server unavailable" in caplog.text)
    assert "127.0.0.1:1" in str(caught.value)
    assert PASSWORD not in "".join(traceback.format_exception(caught.value)) + everything_logged(caplog)


def everything_logged(caplog: pytest.LogCaptureFixture) -> str:
    """Every record of every logger and level, as both formats write it, with all attributes."""
    lines: list[str] = []
    for record in caplog.records:
        lines += [TextFormatter().format(record), JsonFormatter().format(record), repr(vars(record))]
    return "\n".join(lines)


def traces(manuscript: Manuscript) -> list[str]:
    """What a log would hold of a manuscript: its words, or its tokens as text, in hexadecimal, as bytes."""
    from xuankan.protocol.template import Template

    text = (manuscript.title, manuscript.abstract, manuscript.keywords)
    ids = Template.default().encode_manuscript(*text).ids.astype("<i4")
    raw, three = ids.tobytes(), ids[:3].tolist()
    return [
        CANARY,
        "zirconium",
        str(three)[1:-1],
        " ".join(map(str, three)),
        raw[:8].hex(),
        repr(raw[:8])[2:-1],
    ]


async def test_no_path_through_producer_worker_and_commands_tells_of_a_manuscript(
    server_url: str, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    manuscript = Manuscript(f"{CANARY} catalysis", f"We study {CANARY} over and over. " * 8, (CANARY,))
    # Requests whose manuscript stands in a wrong field; one that fails; one that is garbage.
    message: dict[str, Any] = msgpack.unpackb(request().encode())
    broken = [{"lane": CANARY}, {"reply": manuscript.title}, {"traceparent": [CANARY]}, {"top_k": CANARY}]
    for number, change in enumerate(broken):
        body = msgpack.packb(message | {"id": f"broken-{number}"} | change)
        await queue.push_raw(body, f"broken-{number}")
        await queue.push_raw(body, None)
    await queue.push_raw(manuscript.abstract.encode(), "garbage")
    errors: list[XuankanError] = []
    engine = ScriptedEngine(spoiled=int(tokens(manuscript)[5]))
    async with (
        portal.producer(server_url) as producer,
        running(server_url, engine, metrics_port=0) as worker,
    ):
        with pytest.raises(RequestFailed) as failed:
            await producer.rank(manuscript)
        errors.append(failed.value)
        for number in range(len(broken)):
            await queue.result(f"broken-{number}")
        await queue.result("garbage")
        metrics = await asyncio.to_thread(scrape, worker.metrics_port)
        status = worker.status().encode().decode()
    said = [
        everything_logged(caplog),
        metrics,
        status,
        "".join(line for error in errors for line in traceback.format_exception(error)),
        *[
            repr({name: value for name, value in fields.items() if name != b"request"})
            for fields in await queue.dead()
        ],
    ]
    assert "a request ended without a ranking" in said[0]
    for trace in traces(manuscript):
        for text in said:
            assert trace not in text


def tokens(manuscript: Manuscript) -> Any:
    from xuankan.protocol.template import Template

    text = (manuscript.title, manuscript.abstract, manuscript.keywords)
    return Template.default().encode_manuscript(*text).ids.astype(np.int32)


def scrape(port: int | None) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
        return reply.read().decode()
