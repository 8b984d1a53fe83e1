"""Running asynchronous commands so that they clean up, and what they talk to."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncGenerator, Coroutine, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from xuankan.candidates import FirstStage, first_stage_of
from xuankan.catalogue import Catalogue
from xuankan.embedded.servers import EmbeddedServer, EmbeddedWorker
from xuankan.outlets import echo

_T = TypeVar("_T")


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end; Ctrl-C and SIGTERM unwind it first, so that no server or worker stays behind.

    Raises:
        KeyboardInterrupt: on either signal.
    """

    async def unwound_by_sigterm() -> _T:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        return asyncio.run(unwound_by_sigterm())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


class GivenCatalogue(NamedTuple):
    """What `--catalogue` names, and the options that give it to a worker; None stands for the package's."""

    catalogue: Catalogue | None
    first_stage: FirstStage | None
    worker_options: tuple[str, ...]


def given_catalogue(file: Path | None) -> GivenCatalogue:
    """The catalogue of `--catalogue` and its first stage.

    Raises:
        CatalogueError: one of them cannot be read, or they do not belong together.
    """
    if file is None:
        return GivenCatalogue(None, None, ())
    catalogue = Catalogue.load(file)
    return GivenCatalogue(catalogue, first_stage_of(file, catalogue), ("--catalogue", str(file)))


@contextlib.asynccontextmanager
async def served(
    url: str | None, namespace: str, worker_options: Sequence[str] = ()
) -> AsyncGenerator[str, None]:
    """The URL of a server with a worker: `url`, or without one a server and worker started for us alone."""
    if url is not None:
        yield url
        return
    if sys.stderr.isatty():
        echo("Starting a private server and worker ...", err=True)
    async with (
        EmbeddedServer() as server,
        EmbeddedWorker(server.url, namespace=namespace, options=worker_options),
    ):
        yield server.url
