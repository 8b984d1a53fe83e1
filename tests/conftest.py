from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.server import ValkeyProcess
from tests.support.world import Queue
from xuankan_worker.server import connect


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyProcess]:
    server = ValkeyProcess(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server_url(shared_server: ValkeyProcess) -> str:
    """A running server. Tests that use `queue` find it empty."""
    return shared_server.url


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyProcess]:
    """A durable server of the test's own, not started yet, to kill and start again."""
    server = ValkeyProcess(tmp_path_factory.mktemp("valkey"), durable=True)
    yield server
    server.kill()


@pytest.fixture
async def queue(server_url: str) -> AsyncIterator[Queue]:
    client = connect(server_url)
    queue = Queue(client)
    await queue.command("FLUSHALL")
    yield queue
    await client.aclose()
