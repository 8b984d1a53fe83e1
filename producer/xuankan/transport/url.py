"""Server URLs: what a server, a Sentinel's master, or a Cluster is called."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from xuankan.errors import InputError

FORMS: Final = (
    "use redis://[user:password@]host:port/db, unix:///path, redis+sentinel://host:port,host:port/master/db "
    "or redis+cluster://host:port,host:port (rediss for TLS)"
)
_ENCODE: Final = "/, ?, # and % in a password must be written as %2F, %3F, %23 and %25"
_SCHEME: Final = re.compile(r"(?:(rediss?)(?:\+(sentinel|cluster))?|unix)")
_PORTS: Final = {"server": 6379, "sentinel": 26379, "cluster": 6379}
_SENTINEL_OPTIONS: Final = ("sentinel_username", "sentinel_password")
_OPTIONS: Final[Mapping[str, type[str] | type[int] | type[float] | type[bool]]] = {
    "db": int,
    "username": str,
    "password": str,
    "client_name": str,
    "socket_timeout": float,
    "socket_connect_timeout": float,
    "ssl_ca_certs": str,
    "ssl_ca_path": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_password": str,
    "ssl_cert_reqs": str,
    "ssl_check_hostname": bool,
    "ssl_ciphers": str,
    **dict.fromkeys(_SENTINEL_OPTIONS, str),
}
_TRUE, _FALSE = ("1", "true", "yes"), ("0", "false", "no")

Node = tuple[str, int]
"""Host and port."""


@dataclass(frozen=True, slots=True)
class Address:
    """A server URL, taken apart.

    Attributes:
        kind: what answers at `nodes`: the server itself, Sentinels that know where it is, or nodes of a
            Cluster.
        nodes: hosts and ports; empty for a Unix socket.
        path: of the Unix socket, else empty.
        master: the name under which the Sentinels know the server, else empty.
        tls: whether connections are encrypted, those to Sentinels too.
        options: for each connection to the server, as redis-py calls them; secrets are among them.
        sentinel_options: the same for connections to Sentinels.
    """

    kind: Literal["server", "sentinel", "cluster"]
    nodes: tuple[Node, ...]
    path: str
    master: str
    tls: bool
    options: Mapping[str, Any]
    sentinel_options: Mapping[str, Any]

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read a URL.

        Raises:
            InputError: it is not a server's URL; the message does not repeat what may be secret.
        """
        try:
            parts = urlsplit(url)
        except ValueError:  # its text may hold the password
            raise InputError("url", f"it cannot be read; {FORMS}") from None
        scheme = _SCHEME.fullmatch(parts.scheme)
        if scheme is None:
            raise InputError("url", f"the scheme {parts.scheme!r} is unknown; {FORMS}")
        options = _options(parts)
        if parts.scheme == "unix":
            if not parts.path:
                raise InputError("url", f"it has no path; {FORMS}")
            return cls("server", (), unquote(parts.path), "", False, options, {})
        kind: Any = scheme[2] or "server"
        nodes = tuple(_node(node, _PORTS[kind]) for node in parts.netloc.rpartition("@")[2].split(","))
        if kind == "server" and len(nodes) > 1:
            raise InputError("url", f"several hosts, but neither +sentinel nor +cluster; {FORMS}")
        path = [unquote(part) for part in parts.path.split("/") if part]
        master = ""
        if kind == "sentinel":
            if not path:
                raise InputError("url", f"it does not name the master; {FORMS}")
            master = path.pop(0)
        if path:
            if len(path) > 1 or not path[0].isdecimal():
                # Not repeated: what follows a `/` in a password that was not encoded stands here.
                raise InputError("url", f"its path is not a database number; {_ENCODE}; {FORMS}")
            options.setdefault("db", int(path[0]))
        if kind == "cluster" and options.get("db"):
            raise InputError("url", "a Cluster has only database 0")
        sentinel = {
            name.removeprefix("sentinel_"): options.pop(name) for name in _SENTINEL_OPTIONS if name in options
        }
        if sentinel and kind != "sentinel":
            raise InputError(
                "url", f"{_SENTINEL_OPTIONS[0]} and similar options are for redis+sentinel:// only"
            )
        return cls(kind, nodes, "", master, scheme[1] == "rediss", options, sentinel)

    def __str__(self) -> str:
        """The URL without user, password and options, fit for messages and logs."""
        if self.path:
            return f"unix://{self.path}"
        scheme = ("rediss" if self.tls else "redis") + ("" if self.kind == "server" else f"+{self.kind}")
        hosts = ",".join(f"{f'[{host}]' if ':' in host else host}:{port}" for host, port in self.nodes)
        master = f"/{self.master}" if self.master else ""
        return f"{scheme}://{hosts}{master}" + (f"/{self.options['db']}" if "db" in self.options else "")


def _node(text: str, port: int) -> Node:
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:/]*)(?::(\d{1,5}))?", text)
    if found is None or int(found[2] or port) > 65535:
        # Not repeated either: it may be what stands before a `/` in a password.
        raise InputError("url", f"it has no host with a port; {_ENCODE}; {FORMS}")
    return unquote(found[1].strip("[]")) or "localhost", int(found[2] or port)


def _options(parts: SplitResult) -> dict[str, Any]:
    options: dict[str, Any] = {}
    user, colon, password = parts.netloc.rpartition("@")[0].partition(":")
    if user:
        options["username"] = unquote(user)
    if colon:
        options["password"] = unquote(password)
    for name, value in parse_qsl(parts.query):
        kind = _OPTIONS.get(name)
        if kind is None:
            raise InputError("url", f"the option {name!r} is not one of {', '.join(_OPTIONS)}")
        if name.startswith("ssl_") and not parts.scheme.startswith("rediss"):
            raise InputError("url", f"{name} is an option of rediss:// (TLS)")
        try:
            options[name] = _truth(value) if kind is bool else kind(value)
        except ValueError:
            raise InputError("url", f"{value!r} is not a valid value for {name}") from None
        if kind is float and not options[name] > 0:
            raise InputError("url", f"{name} is must be greater than 0 seconds, not {value}")
    return options


def _truth(value: str) -> bool:
    if value.lower() in _TRUE:
        return True
    if value.lower() in _FALSE:
        return False
    raise ValueError
