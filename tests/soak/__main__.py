"""`python -m tests.soak --hours H`: see `make soak`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any, Final

import click
import httpx2
from rich.console import Console
from rich.table import Table

from tests.soak.load import Load
from tests.soak.samples import Slope, keys, process, slopes
from xuankan import Producer
from xuankan.embedded.process import Child
from xuankan.embedded.servers import EmbeddedServer, EmbeddedWorker, free_port
from xuankan.errors import ServerUnavailable
from xuankan.transport.client import open_client

_RESULT_S: Final = 120.0


class Portal(Child):
    """A portal on this machine, open to everybody who is on it."""

    _what = "the portal"
    _error = ServerUnavailable
    _start_timeout_s = 60.0
    _stop_timeout_s = 10.0

    def __init__(self, url: str) -> None:
        super().__init__()
        self._environment = {"XUANKAN_REDIS": url}
        self._port = free_port()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    def _command(self, directory: Path) -> Sequence[str]:
        del directory
        return [sys.executable, "-m", "xuankan.cli.main", "portal", "--open", "--port", str(self._port)]

    def _is_ready(self) -> bool:
        with contextlib.suppress(httpx2.HTTPError):
            return httpx2.get(f"{self.url}/healthz", timeout=1).status_code == 200
        return False


@contextlib.asynccontextmanager
async def _everything(out: Path) -> AsyncGenerator[tuple[EmbeddedServer, EmbeddedWorker, Portal]]:
    async with (
        EmbeddedServer(out / "data", appendfsync="everysec") as server,
        EmbeddedWorker(server.url) as worker,
        Portal(server.url) as portal,
    ):
        yield server, worker, portal


async def _run(hours: float, period_s: float, rate_per_s: float, seed: int, out: Path) -> list[Slope]:
    times: list[float] = []
    samples: list[dict[str, float]] = []
    async with _everything(out) as (server, worker, portal), Producer(server.url) as producer:
        client = open_client(server.url)
        load = Load(portal.url, producer, rate_per_s, seed)
        loading = asyncio.create_task(load.run())
        started_s = time.monotonic()
        with (out / "samples.jsonl").open("w") as file:
            while (passed_s := time.monotonic() - started_s) < hours * 3600:
                await asyncio.sleep(period_s - passed_s % period_s)
                found = await keys(client, _RESULT_S)
                sample = _sample(server, worker, portal, found)
                times.append((time.monotonic() - started_s) / 3600)
                samples.append(sample)
                line = {"hours": times[-1], **sample, "kinds": dict(found), "ended": dict(load.ended)}
                file.write(json.dumps(line) + "\n")
                file.flush()
                if loading.done():
                    loading.result()
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        await load.close()
        await client.aclose()
    found_slopes = slopes(times, samples)
    _show(found_slopes, load.ended, times[-1])
    return found_slopes


def _sample(
    server: EmbeddedServer, worker: EmbeddedWorker, portal: Portal, found: Counter[str]
) -> dict[str, float]:
    sample = {
        f"{name}.{what}": value
        for name, one in (("server", server), ("worker", worker), ("portal", portal))
        for what, value in process(one.pid).items()
    }
    # Requests come and go; what is left of them is what counts.
    return sample | {"server.keys": float(found.total())}


def _show(found: Sequence[Slope], ended: Counter[str], hours: float) -> None:
    table = Table("what", "at the end", "per hour", "95 %", "allowed", title=f"after {hours:.2f} h")
    for one in found:
        colour = "red" if one.grows else "green"
        bounds = f"{one.low:+.2f} to {one.high:+.2f}"
        table.add_row(
            one.what, f"{one.last:.1f}", f"[{colour}]{one.per_hour:+.2f}", bounds, f"{one.allowed:g}"
        )
    calls = Table("call", "times", title=f"{ended.total():,} calls")
    for name, count in sorted(ended.items()):
        calls.add_row(name, f"{count:,}")
    console = Console(width=110)
    console.print(table, calls)


@click.command()
@click.option("--hours", default=1.0, show_default=True)
@click.option("--period-s", default=60.0, show_default=True, help="Between two samples.")
@click.option("--rate", default=2.0, show_default=True, help="Calls a second.")
@click.option("--seed", default=1, show_default=True)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=Path("soak-out"), show_default=True
)
def main(hours: float, period_s: float, rate: float, seed: int, out: Path) -> None:
    """Load a real worker and portal for hours; exits 1 if memory, descriptors, threads or keys grow."""
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    found = asyncio.run(_run(hours, period_s, rate, seed, out))
    report: list[dict[str, Any]] = [
        {"what": one.what, "per_hour": one.per_hour, "low": one.low, "high": one.high, "last": one.last}
        for one in found
    ]
    (out / "slopes.json").write_text(json.dumps(report, indent=2) + "\n")
    if growing := [one.what for one in found if one.grows]:
        click.echo(f"grows: {', '.join(growing)}")
        sys.exit(1)


if __name__ == "__main__":
    main()
