from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import leftovers, tiny_bert
from tests.support.server import ValkeyProcess
from tests.support.world import Queue
from xuankan.protocol.template import Template
from xuankan.transport.client import open_client
from xuankan_worker.manifest import Manifest

# The same examples in every run, however slow the host: `too_slow` would be about it, not about the examples.
# `--hypothesis-profile=explore` looks for new ones.
SLOW = [HealthCheck.too_slow]
settings.register_profile("repeatable", derandomize=True, deadline=None, suppress_health_check=SLOW)
settings.register_profile("explore", deadline=None, suppress_health_check=SLOW, max_examples=2000)
settings.load_profile("repeatable")


def pytest_configure() -> None:
    # A script's shell starts what runs in the background with SIGINT ignored, and every child inherits that:
    # tests of Ctrl-C would wait for ever.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    leftovers.adopt_orphans()


@pytest.fixture(autouse=True)
def leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """No process that the test started, and on the shared server no key without a lifetime."""
    before = leftovers.children()
    yield
    leftovers.check_processes(before)
    if "shared_server" in request.fixturenames:
        leftovers.check_keys(request.getfixturevalue("shared_server").url)


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
    if server.is_running:
        leftovers.check_keys(server.url)
    server.kill()


@pytest.fixture
async def queue(server_url: str) -> AsyncIterator[Queue]:
    client = open_client(server_url)
    queue = Queue(client)
    await queue.command("FLUSHALL")
    yield queue
    await client.aclose()


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of random weights that fits the template."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_bert, "VOCABULARY", Template.default().tokenizer.get_vocab_size())
        patch.setattr(tiny_bert, "POSITIONS", Template.default().max_length)
        directory = tiny_bert.write_release(tmp_path_factory.mktemp("release"))
    replace(Manifest.load(directory), template=Template.default().fingerprint).save(directory)
    return directory
