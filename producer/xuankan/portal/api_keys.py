"""API keys: who may call, and how often. A TOML file holds their SHA-256, never the keys themselves.

[keys.ojs]
sha256 = "9f86d08…"
rankings_per_minute = 60
burst = 20

[anonymous]               # without it, nobody may call without a key
rankings_per_minute = 6   # for each address
burst = 6
"""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec

from xuankan.errors import InputError

_log = logging.getLogger("xuankan.portal")

_PREFIX: Final = "xk_"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_LOOK_S: Final = 2.0
NOBODY: Final = "anonymous"
EVERYBODY: Final = "open"
"""Whose requests are those without a key: where keys exist, and where none are asked for."""

_Rate = Annotated[float, msgspec.Meta(gt=0, le=1_000_000)]
_Burst = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class Allowance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often somebody may ask: a mean rate, and how many at once after a pause."""

    rankings_per_minute: _Rate = 60.0
    burst: _Burst = 20


class _Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    rankings_per_minute: _Rate = 60.0
    burst: _Burst = 20


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keys: dict[str, _Key] = {}
    anonymous: Allowance | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the name of the key, and its allowance (None: no limit). `anonymous` callers have no key."""

    name: str
    allowance: Allowance | None
    anonymous: bool = False


class KeyRing:
    """The keys of a file; it is read again when it changes.

    Args:
        path: the file. None: everybody may call, without limits.

    Raises:
        InputError: the file cannot be read, or is not as the module describes.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._callers: dict[str, Caller] = {}
        self._nobody: Caller | None = Caller(EVERYBODY, None, anonymous=True)
        self._looked_s = time.monotonic()
        if path is not None:
            self._stamp = _stamp(path)
            self._load(path)

    @property
    def key_required(self) -> bool:
        """Whether nobody may call without a key."""
        self._refresh()
        return self._nobody is None

    def caller(self, key: str | None) -> Caller | None:
        """Whose key it is, or who calls without one; None: nobody who may."""
        self._refresh()
        if key is None or self._path is None:
            return self._nobody
        return self._callers.get(_digest(key))

    def _refresh(self) -> None:
        if self._path is None or time.monotonic() - self._looked_s < _LOOK_S:
            return
        self._looked_s = time.monotonic()
        try:
            if (stamp := _stamp(self._path)) != self._stamp:
                self._load(self._path)
                self._stamp = stamp
                _log.info("reloaded %s: %d keys", self._path, len(self._callers))
        except InputError as error:
            _log.error("%s; the previous keys stay in force", error)

    def _load(self, path: Path) -> None:
        try:
            file = msgspec.convert(tomllib.loads(path.read_text("utf-8")), _File)
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            raise InputError("keys", f"{path} cannot be used: {error}") from None
        callers: dict[str, Caller] = {}
        for name, key in file.keys.items():
            if not _NAME.fullmatch(name) or name in (NOBODY, EVERYBODY):
                raise InputError("keys", f"{path}: {name!r} cannot name a key: {_NAME_RULE}")
            if key.sha256 in callers:
                raise InputError("keys", f"{path}: {name} has the same key as {callers[key.sha256].name}")
            callers[key.sha256] = Caller(name, Allowance(key.rankings_per_minute, key.burst))
        self._callers = callers
        self._nobody = None if file.anonymous is None else Caller(NOBODY, file.anonymous, anonymous=True)


_NAME_RULE: Final = f"1 to 32 of a-z, 0-9 and '-', and neither {NOBODY!r} nor {EVERYBODY!r}"


def new_key(name: str) -> tuple[str, str]:
    """A new key, and the lines of the file that let it in.

    Raises:
        InputError: a name that cannot name a key.
    """
    if not _NAME.fullmatch(name) or name in (NOBODY, EVERYBODY):
        raise InputError("name", f"{name!r} cannot name a key: {_NAME_RULE}")
    key = _PREFIX + secrets.token_urlsafe(32)
    allowance = Allowance()
    return key, (
        f'[keys.{name}]\nsha256 = "{_digest(key)}"\n'
        f"rankings_per_minute = {allowance.rankings_per_minute:g}\nburst = {allowance.burst}\n"
    )


def _digest(key: str) -> str:
    # Keys are 256 random bits: nobody finds one by its hash, however fast the hash.
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise InputError("keys", f"{path} cannot be read: {error.strerror}") from None
    return found.st_mtime_ns, found.st_size, found.st_ino
