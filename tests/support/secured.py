"""A server as deploy/redis ships it: xuankan.conf, and the template's users with passwords of the tests."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from redis import Redis

from tests.support.leftovers import keys_without_lifetime
from tests.support.world import KEYS
from xuankan.embedded.servers import EmbeddedServer

DEPLOY = Path(__file__).parents[2] / "deploy" / "redis"
USERS = ("producer", "worker", "operator", "admin")


def password(user: str) -> str:
    return f"{user}-password-of-the-tests"


def make_acl(namespace: str, **passwords: str) -> subprocess.CompletedProcess[str]:
    """Run deploy/redis/make-acl as an operator would."""
    environment = {"PATH": os.environ["PATH"]}
    environment |= {f"XUANKAN_{user.upper()}_PASSWORD": text for user, text in passwords.items()}
    return subprocess.run(
        [DEPLOY / "make-acl", namespace], env=environment, capture_output=True, text=True, check=False
    )


class Secured:
    """A running server with users."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server

    def url(self, user: str) -> str:
        where = urlsplit(self._server.tcp_url)
        return f"redis://xuankan-{user}:{password(user)}@{where.hostname}:{where.port}/0"

    def command(self, user: str, *command: Any) -> Any:
        """Run one command as a user."""
        client = cast(Any, Redis).from_url(self.url(user), protocol=2, driver_info=None)
        with contextlib.closing(client):
            return client.execute_command(*command)

    def forget(self) -> None:
        """Empty the server, and what it remembers of commands."""
        for command in ("FLUSHALL", "SCRIPT FLUSH", "ACL LOG RESET", "CONFIG RESETSTAT"):
            self.command("admin", *command.split())

    def refused(self) -> list[tuple[str, str, str]]:
        """User, command or key, and context of every command that was refused."""
        entries = cast(list[dict[str, Any]], self.command("admin", "ACL LOG"))
        return [(entry["username"], entry["object"], entry["context"]) for entry in entries]

    def used(self) -> set[str]:
        """Commands that were run, in scripts too: `xgroup|create`."""
        facts = cast(dict[str, Any], self.command("admin", "INFO", "commandstats"))
        return {name.removeprefix("cmdstat_") for name, row in facts.items() if row["calls"]}


@contextlib.contextmanager
def secured_server(
    directory: Path, binary: Path | None = None, options: Sequence[str] = ()
) -> Generator[Secured]:
    """Start a server with the files of deploy/redis."""
    acl = directory / "users.acl"
    made = make_acl(KEYS.namespace, **{user: password(user) for user in USERS})
    assert made.returncode == 0, made.stderr
    acl.write_text(made.stdout)
    with EmbeddedServer(
        directory / "data",
        port=0,
        binary=binary,
        options=("--include", str(DEPLOY / "xuankan.conf"), "--aclfile", str(acl), *options),
    ) as server:
        secured = Secured(server)
        yield secured
        left = keys_without_lifetime(lambda *command: secured.command("admin", *command))
        assert not left, f"keys without a lifetime: {left}"
