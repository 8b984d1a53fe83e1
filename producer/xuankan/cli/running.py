"""Running asynchronous commands so that they clean up, and what they talk to."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncGenerator, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from xuankan.catalogue import Catalogue
from xuankan.embedded.servers import EmbeddedServer, EmbeddedWorker

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


def given_catalogue(file: Path | None) -> tuple[Catalogue | None, tuple[str, ...]]:
    """The catalogue of `--catalogue`, None for the package's, and the options that give it to a worker.

    Raises:
        CatalogueError: it cannot be read.
    """
    return (None, ()) if file is None else (Catalogue.load(file), ("--catalogue", str(file)))


@contextlib.asynccontextmanager
async def served(
    url: str | None, namespace: str, worker_options: Sequence[str] = ()
) -> AsyncGenerator[str, None]:
    """The URL of a server with a worker: `url`, or without one a server and worker started for us alone."""
    if url is not None:
        yield url
        return
    if sys.stderr.isatty():
        click.echo("Starting a private server and worker ...", err=True)
    async with (
        EmbeddedServer() as server,
        EmbeddedWorker(server.url, namespace=namespace, options=worker_options),
    ):
        yield server.url
