"""All checks, one after the other."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import cast

from redis import exceptions as faults

from xuankan.catalogue import Catalogue
from xuankan.doctor import package, queue, server
from xuankan.doctor.findings import Finding, Role
from xuankan.protocol.keys import Keys
from xuankan.protocol.queue_state import QueueReader
from xuankan.transport.client import is_refusal, open_client
from xuankan.transport.url import Address

Examiner = Callable[[Path | None, Catalogue | None, bool], Sequence[Finding]]
"""Checks of another part of the product, from the entry points `xuankan.checks`. It gets the release to serve
(None: the package's), the catalogue (None: it cannot be read), and whether it has to serve."""

_PATIENCE_S = 15.0


def examine(
    url: str, keys: Keys, role: Role | None, release: Path | None, catalogue_file: Path | None
) -> list[Finding]:
    """Look at everything; takes seconds, and changes nothing anywhere.

    Args:
        url: of the server.
        keys: of the shard.
        role: what this machine and this user have to be able to do; None for whatever they can.
        release: as a worker here is given it; None for the package's own.
        catalogue_file: likewise.

    Raises:
        InputError: a URL that cannot be one.
    """
    address = Address.parse(url)
    ours, found = package.examine(catalogue_file, os.environ, role)
    found += asyncio.run(_remote(url, address, keys, role, ours))
    if role in (None, "worker"):
        for part in entry_points(group="xuankan.checks"):
            found += cast(Examiner, part.load())(release, ours.catalogue, role == "worker")
    return found


async def _remote(
    url: str, address: Address, keys: Keys, role: Role | None, ours: package.Package
) -> list[Finding]:
    redis = open_client(url, keys)
    try:
        async with asyncio.timeout(_PATIENCE_S):
            facts = await server.ask(redis, address, keys, sealed=ours.sealed)
            queued = await QueueReader(keys, for_operators=True).read(redis)
    except (faults.RedisError, OSError) as error:
        return [_unreachable(address, error)]
    finally:
        await redis.aclose()
    return [*server.judge(facts, role), *queue.judge(queued, ours, keys.namespace, role)]


def _unreachable(address: Address, error: Exception) -> Finding:
    reason = str(error) or f"no answer within {_PATIENCE_S:g} s"
    remedy = "check that the server is running, that the URL is right, and that no firewall is in the way"
    if is_refusal(error):
        remedy = "check the user and the password in the URL (deploy/redis/make-acl), or at the certificate"
    return Finding(server.AREA, "connection", "failure", f"{address}: {reason}", remedy)
