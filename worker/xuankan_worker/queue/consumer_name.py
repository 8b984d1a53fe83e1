"""A worker's default name: stable over restarts, and no other's on this host."""

from __future__ import annotations

import atexit
import errno
import platform
import re
import socket


def claim_name() -> str:
    """The host's name and the first number that no other process here has claimed; ours until we end.

    A claim is an abstract Unix socket (unix(7)): the kernel gives it to one process only and frees it when
    that process ends in any way, so a worker that crashed gets its name, and so its entries, back at once.
    Its scope is the network namespace, as a container has one of its own.

    Raises:
        OSError: the system has no abstract sockets.
    """
    host = re.sub(r"[^A-Za-z0-9._-]", "-", platform.node())[:100] or "worker"
    number = 0
    while True:
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            claim.bind(f"\0xuankan-worker-{number}")
        except OSError as error:
            claim.close()
            if error.errno != errno.EADDRINUSE:
                raise
            number += 1
            continue
        atexit.register(claim.close)  # which keeps it open until then
        return f"{host}:{number}"
