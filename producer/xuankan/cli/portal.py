"""`xuankan portal`: the page for authors and the HTTP interface for submission systems."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal

import click

from xuankan.cli.options import (
    catalogue_option,
    check_embedded,
    log_format_option,
    namespace_option,
    redis_option,
)
from xuankan.outlets import echo


@click.group(invoke_without_command=True)
@redis_option("The Redis/Valkey server of the workers: redis://, rediss:// or unix://.", default=None)
@click.option("--embedded", is_flag=True, help="Start a private server and worker, to try it out.")
@click.option(
    "--host",
    metavar="HOST",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on, such as 0.0.0.0.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port to listen on; 0 picks a free one.",
)
@click.option(
    "--keys",
    "keys_file",
    metavar="FILE",
    envvar="XUANKAN_PORTAL_KEYS",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="API keys and how often each may call; see `xuankan portal new-key`. [env: XUANKAN_PORTAL_KEYS]",
)
@click.option(
    "--open", "everybody", is_flag=True, help="Anyone who can reach it may use it, without keys or limits."
)
@namespace_option()
@catalogue_option()
@click.option(
    "--cors-origin",
    "cors_origins",
    metavar="ORIGIN",
    multiple=True,
    help="Allow calls from scripts of this web site, as `https://journal.example`; can be repeated.",
)
@click.option(
    "--trust-proxy",
    "trusted_proxies",
    metavar="ADDRESS",
    multiple=True,
    help="Trust X-Forwarded-For from this proxy or network; can be repeated.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(1, 65535),
    help="Serve /metrics (Prometheus), /healthz and /readyz on this port too, apart from callers.",
)
@click.option(
    "--metrics-host",
    metavar="HOST",
    help="Address for --metrics-port, such as one that only operators can reach; default: that of --host.",
)
@log_format_option()
@click.pass_context
def portal(
    ctx: click.Context,
    url: str | None,
    embedded: bool,
    host: str,
    port: int,
    keys_file: Path | None,
    everybody: bool,
    namespace: str,
    catalogue_file: Path | None,
    cors_origins: tuple[str, ...],
    trusted_proxies: tuple[str, ...],
    metrics_port: int | None,
    metrics_host: str | None,
    log_format: Literal["text", "json"],
) -> None:
    """Serve the page for authors and the HTTP interface for submission systems.

    It puts manuscripts on the queue and shows their rankings; workers run elsewhere. docs/portal-api.md and
    /v1/openapi.json describe the interface. For use over a network, put a proxy with TLS in front of it.

    \b
    xuankan portal --embedded
    xuankan portal --redis redis://queue:6379 --host 0.0.0.0 --keys keys.toml
    """  # noqa: D301  # click's mark is a real backspace
    if ctx.invoked_subcommand is not None:
        return
    check_embedded(ctx, embedded)
    if not embedded and url is None:
        raise click.UsageError("give --redis URL, or --embedded to try it out")
    if everybody and keys_file is not None:
        raise click.UsageError("--open and --keys cannot be combined: [anonymous] in FILE lets everyone in")
    if keys_file is None and not everybody and not _is_loopback(host):
        raise click.UsageError(
            f"others can reach it on {host}: give --keys FILE (`xuankan portal new-key` makes one), or --open"
        )

    import asyncio
    import logging

    from xuankan import tracing
    from xuankan.cli.running import given_catalogue, served
    from xuankan.logs import configure as configure_logs
    from xuankan.portal.serve import serve
    from xuankan.portal.settings import PortalSettings

    configure_logs(log_format)
    # Its warnings are a line for each malformed call: strangers would fill the disk.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    tracing.configure("xuankan-portal")
    given = given_catalogue(catalogue_file)

    async def work() -> None:
        async with served(None if embedded else url, namespace, given.worker_options) as server_url:
            settings = PortalSettings(
                server_url,
                namespace=namespace,
                catalogue=given.catalogue,
                first_stage=given.first_stage,
                keys_file=keys_file,
                cors_origins=cors_origins,
            )
            await serve(
                settings,
                host,
                port,
                metrics_host=metrics_host,
                metrics_port=metrics_port,
                trusted_proxies=trusted_proxies,
            )

    asyncio.run(work())


@portal.command("new-key")
@click.argument("name")
def new_key(name: str) -> None:
    """Make an API key called NAME, and the lines for the file of --keys.

    The key itself goes to standard error and is kept nowhere; the lines go to standard output.

    \b
    xuankan portal new-key ojs >> keys.toml
    """  # noqa: D301  # click's mark is a real backspace
    from xuankan.portal.api_keys import new_key as make

    key, lines = make(name)
    echo(f"The key, shown only once: {key}", err=True)
    echo(lines)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
