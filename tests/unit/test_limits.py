"""Whatever is read from outside has a size at which reading ends, with an error that says so."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from prometheus_client import CollectorRegistry

from tests.support.world import request
from xuankan.catalogue import Catalogue, model, tables
from xuankan.documents import Document, File, Problem, files
from xuankan.documents import read as read_documents
from xuankan.documents.model import MAX_RECORD_BYTES
from xuankan.errors import CatalogueError, ProtocolError
from xuankan.protocol.fields import MAX_FIELDS, MAX_ITEMS, unpack
from xuankan.protocol.wire import MAX_REQUEST_BYTES, MAX_RESULT_BYTES, Request, Result
from xuankan_worker.telemetry import endpoint as http
from xuankan_worker.telemetry.endpoint import HttpEndpoint

SOURCES = Path(__file__).parents[2]


@pytest.mark.parametrize(("kind", "most"), [(Request, MAX_REQUEST_BYTES), (Result, MAX_RESULT_BYTES)])
def test_a_message_that_is_too_large_is_not_parsed(kind: type[Request | Result], most: int) -> None:
    with pytest.raises(ProtocolError, match=f"^message: {most + 1} bytes, but at most {most} are read"):
        kind.decode(bytes(most + 1))


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"\x81\xa1a" + b"\x91" * 2000 + b"\xc0", "nested 2,000 deep"),
        (b"\x81\xa1a\xdd\xff\xff\xff\xff", "a list that says it has 4 billion items"),
        (b"\xdf\xff\xff\xff\xff", "a map that says it has 4 billion fields"),
        (b"\x81\xa1a\xc6\xff\xff\xff\xff", "bin of 4 GB"),
        (b"\x81\xa1a\xdb\xff\xff\xff\xff", "text of 4 GB"),
        (b"\x81\xa1a\xdd" + (MAX_ITEMS + 1).to_bytes(4, "big") + b"\xc0" * (MAX_ITEMS + 1), "a long list"),
        (msgpack.packb({str(number): 0 for number in range(MAX_FIELDS + 1)}), "many fields"),
        (b"\x81\xa1a\xc7\x01\x05x", "an extension type"),
        (b"\x81\xa1a\xd6\xff\x00\x00\x00\x00", "a timestamp"),
    ],
)
def test_msgpack_that_asks_for_much_is_refused(message: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match="not one msgpack map"):
        assert unpack(message, MAX_RESULT_BYTES) == why


def test_what_a_message_may_hold_at_most_is_read() -> None:
    message = {"list": list(range(MAX_ITEMS))} | {str(number): number for number in range(MAX_FIELDS - 1)}
    assert unpack(msgpack.packb(message), MAX_RESULT_BYTES) == message


SECRET = "Our unpublished proof that P is not NP"


@pytest.mark.parametrize("field", ["id", "lane", "fingerprint", "tokens", "reply", "traceparent", "top_k"])
def test_errors_do_not_repeat_what_a_producer_put_in_the_wrong_field(field: str) -> None:
    """A bug may put a manuscript anywhere, and errors reach logs and the dead stream."""
    for value in (SECRET, SECRET * 9, SECRET.encode() + b"!", [SECRET], {"title": SECRET}):
        message: dict[str, Any] = msgpack.unpackb(request().encode()) | {field: value}
        error = refusal(msgpack.packb(message))
        if error is not None:  # a text of 38 characters may be a fingerprint
            assert "unpublished" not in str(error)
            assert error.field == field
    message = msgpack.unpackb(request().encode()) | {"lane": "fast"}
    assert str(refusal(msgpack.packb(message))) == "lane: must be one of interactive, bulk, not str 'fast'"


def refusal(data: bytes) -> ProtocolError | None:
    try:
        Request.decode(data)
    except ProtocolError as error:
        return error
    return None


def test_files_of_manuscripts_have_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    long = b'{"title": "' + b"x" * MAX_RECORD_BYTES + b'"}\n'
    data = b'{"title": "a"}\n' + long + b'{"title": "b"}\n'
    first, second, third = read_documents(File("papers.jsonl", data=data))
    assert isinstance(first, Document)
    assert isinstance(third, Document)
    assert isinstance(second, Problem)
    assert "more than 1,600,000 bytes in one line" in second.problem
    monkeypatch.setattr(files, "MAX_DOCUMENT_BYTES", 2**20)
    (found,) = read_documents(File("paper.txt", data=b"a" * (2**20 + 1)))
    assert isinstance(found, Problem)
    assert "more than 1 MiB" in found.problem


def test_json_that_is_nested_deeply_or_has_endless_numbers_is_refused() -> None:
    for text in (b"[" * 200_000, b'{"title": ' + b"9" * 100_000 + b"}", b"[1]"):
        for found in read_documents(File("paper.json", data=text)):
            assert isinstance(found, Problem)


def test_a_catalogue_that_unpacks_to_gigabytes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "MAX_CONTENT_BYTES", 2**20)
    bomb = tmp_path / "bomb.json.gz"
    bomb.write_bytes(gzip.compress(bytes(2**26)))
    with pytest.raises(CatalogueError, match="more than 1 MiB"):
        Catalogue.load(bomb)
    monkeypatch.setattr(model, "MAX_FILE_BYTES", 2**15)
    with pytest.raises(CatalogueError, match=r"more than 0\.03125 MiB"):
        Catalogue.load(bomb)
    for damaged in (b"", b"no gzip", gzip.compress(b"{}")[:-4], gzip.compress(b"{}") + b"more"):
        bomb.write_bytes(damaged)
        with pytest.raises(CatalogueError, match="not gzip data"):
            Catalogue.load(bomb)


def test_tables_of_journals_have_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_TABLE_BYTES", 1000)
    table = tmp_path / "ours.csv"
    table.write_text("title\n" + "x" * 1000)
    with pytest.raises(CatalogueError, match="is it a table of journals"):
        tables.read_csv(table)


@pytest.fixture
async def endpoint() -> Any:
    served = HttpEndpoint(CollectorRegistry(), lambda: None)
    await served.start("127.0.0.1", 0)
    yield served
    await served.stop()


async def ask(endpoint: HttpEndpoint, text: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
    writer.write(text)
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_the_metrics_endpoint_reads_little_and_waits_shortly(
    endpoint: HttpEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert b"200 OK" in await ask(endpoint, b"GET /healthz HTTP/1.1\r\n\r\n")
    assert await ask(endpoint, b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n") == b""
    monkeypatch.setattr(http, "_TIMEOUT_S", 0.05)
    assert await ask(endpoint, b"GET /healthz HTTP/1.1\r\nslow") == b""


async def test_the_metrics_endpoint_serves_a_few_at_a_time(endpoint: HttpEndpoint) -> None:
    idle: list[socket.socket] = []
    try:
        for _ in range(64):
            idle.append(socket.create_connection(("127.0.0.1", endpoint.port)))  # noqa: PERF401
        assert await ask(endpoint, b"GET /healthz HTTP/1.1\r\n\r\n") == b""
    finally:
        for one in idle:
            one.close()


def code() -> Iterator[tuple[Path, str]]:
    for folder in ("producer", "worker"):
        for path in (SOURCES / folder).rglob("*.py"):
            yield path, path.read_text()


def test_nothing_that_is_read_can_run_code() -> None:
    """Beside ruff's rules S301, S307, S506: arrays are never unpickled, torch loads no code."""
    for path, text in code():
        for call in re.findall(r"np\.load\((.*?)\)", text, re.DOTALL):
            assert "allow_pickle=False" in call, path
        for call in re.findall(r"torch\.load\((.*?)\)", text, re.DOTALL):
            assert "weights_only=True" in call, path
        assert "trust_remote_code=True" not in text, path
        assert not re.search(
            r"^\s*(import|from) (pickle|marshal|shelve|dill|cloudpickle|yaml)\b", text, re.M
        ), path
        assert not re.search(r"(?<![\w.])(eval|exec)\(", text), path
