"""Sealing: request and result bodies encrypted with a key that the Redis/Valkey server never sees.

A sealed body is `XKS1` ‖ key id (4 bytes) ‖ nonce (12) ‖ AES-256-GCM ciphertext and tag (16), so 36 bytes
longer than what it holds; a msgpack map never begins with `X`. Each request id has a key of its own,
HKDF-Expand (RFC 5869) of the shared one, so that random nonces do not run out however many requests there
are. Kind and request id are associated data: a body that was moved to another id, or from request to result,
does not open.

AES-GCM rather than Fernet: Fernet has no associated data, adds a third to the size (base64) and takes five to
twenty times as long. docs/protocol.md describes the format for other languages.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from xuankan.errors import InputError, ProtocolError, SealError
from xuankan.protocol.wire import MAX_REQUEST_BYTES, MAX_RESULT_BYTES

_log = logging.getLogger("xuankan.sealing")

KEYS_VARIABLE: Final = "XUANKAN_KEYS"
REQUIRE_VARIABLE: Final = "XUANKAN_REQUIRE_SEALED"
MAGIC: Final = b"XKS1"
KEY_BYTES: Final = 32
_KEY_ID_BYTES, _NONCE_BYTES, _TAG_BYTES = 4, 12, 16
_HEADER_BYTES: Final = len(MAGIC) + _KEY_ID_BYTES
OVERHEAD_BYTES: Final = _HEADER_BYTES + _NONCE_BYTES + _TAG_BYTES
MAX_KEYS: Final = 16
_MAX_KEY_FILE_BYTES: Final = 16 * 1024
_MAX_NAMED: Final = 16
"""Unknown key ids that are logged, each once: whoever fills the queue must not fill the log."""
_WANTED: Final = (
    f"a key is {KEY_BYTES} random bytes in base64, as `openssl rand -base64 {KEY_BYTES}` prints them"
)

Kind = Literal["request", "result"]
_MAX_BYTES: Final[Mapping[Kind, int]] = {"request": MAX_REQUEST_BYTES, "result": MAX_RESULT_BYTES}


def is_sealed(body: bytes) -> bool:
    """Whether a body is a sealed one, of whichever key."""
    return body.startswith(MAGIC)


class Sealer:
    """Seals with the first of its keys and opens with all of them; without keys, it lets bodies through.

    Args:
        keys: 32 bytes each, the same on producers and workers.
        required: refuse requests and rankings that are not sealed. Off while a deployment is moved to keys.

    Raises:
        InputError: a key of another length, a key given twice, more than 16 keys, `required` without a key;
            or keys where the package `cryptography` is not installed.
    """

    def __init__(self, keys: Iterable[bytes] = (), *, required: bool = False) -> None:
        self.required = required
        self._keys: dict[bytes, bytes] = {}
        self._named: set[bytes] = set()
        for place, key in enumerate(keys, 1):
            if len(key) != KEY_BYTES:
                raise InputError(KEYS_VARIABLE, f"key {place} has {len(key)} bytes; {_WANTED}")
            if place > MAX_KEYS:
                raise InputError(KEYS_VARIABLE, f"more than {MAX_KEYS} keys; remove those no longer used")
            if (key_id := _expand(key, b"key id", _KEY_ID_BYTES)) in self._keys:
                raise InputError(KEYS_VARIABLE, f"key {place} is there twice")
            self._keys[key_id] = key
        if required and not self._keys:
            raise InputError(REQUIRE_VARIABLE, f"it is set, but {KEYS_VARIABLE} holds no key")

    def __repr__(self) -> str:
        return f"Sealer(key_ids={list(self.key_ids)}, required={self.required})"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Sealer:
        """The sealer that `XUANKAN_KEYS` and `XUANKAN_REQUIRE_SEALED` describe.

        `XUANKAN_KEYS` holds base64 keys separated by commas or white space, or `@` and the path of a file
        with one a line, where lines that begin with `#` are comments. No error repeats any of it.

        Raises:
            InputError: as for the class; a file that cannot be read; text that is no base64.
        """
        text = environment.get(KEYS_VARIABLE, "").strip()
        if text.startswith("@"):
            text = _read(Path(text[1:]))
        required = environment.get(REQUIRE_VARIABLE, "0")
        if required not in ("", "0", "1"):
            raise InputError(REQUIRE_VARIABLE, "must be 0 or 1")
        return cls(parse_keys(text), required=required == "1")

    @property
    def key_ids(self) -> tuple[str, ...]:
        """Names of the keys in hexadecimal, the one that seals first; they say nothing of the keys."""
        return tuple(key_id.hex() for key_id in self._keys)

    def seal(self, kind: Kind, request_id: str, body: bytes) -> bytes:
        """Seal a body with the first key; without keys, the body as it is."""
        if not self._keys:
            return body
        key_id, key = next(iter(self._keys.items()))
        header, nonce = MAGIC + key_id, os.urandom(_NONCE_BYTES)
        sealed = _cipher(key, request_id).encrypt(nonce, body, _bound(header, kind, request_id))
        return b"".join((header, nonce, sealed))

    def open(self, kind: Kind, request_id: str, body: bytes) -> bytes:
        """What a sealed body holds; a body that is not sealed comes back as it is.

        Raises:
            SealError: it is sealed with a key that is not here, or was changed, or is of another kind or
                request.
            ProtocolError: it is sealed and larger than any body of its kind; it was not looked into.
        """
        if not is_sealed(body):
            return body
        if len(body) > (most := _MAX_BYTES[kind] + OVERHEAD_BYTES):
            raise ProtocolError("message", f"{len(body)} bytes, but at most {most} are read")
        header = body[:_HEADER_BYTES]
        if (key := self._keys.get(header[len(MAGIC) :])) is None:
            raise SealError(self._unknown(kind, header[len(MAGIC) :]))
        nonce, sealed = body[_HEADER_BYTES:][:_NONCE_BYTES], body[_HEADER_BYTES + _NONCE_BYTES :]
        from cryptography.exceptions import InvalidTag

        try:
            return _cipher(key, request_id).decrypt(nonce, sealed, _bound(header, kind, request_id))
        except (InvalidTag, ValueError):  # ValueError: cut short
            raise SealError(
                f"the sealed {kind} cannot be opened: it was changed, or sealed for another request"
            ) from None

    def _unknown(self, kind: Kind, key_id: bytes) -> str:
        have = f"the keys here are {', '.join(self.key_ids)}" if self._keys else "there is no key here"
        message = f"the {kind} is sealed with key {key_id.hex()}; {have}: {KEYS_VARIABLE} differs"
        if key_id not in self._named and len(self._named) < _MAX_NAMED:
            self._named.add(key_id)
            _log.error(message)
        return message


def parse_keys(text: str) -> list[bytes]:
    """Keys in base64, separated by commas or white space; lines that begin with `#` are comments.

    Raises:
        InputError: something is no base64; the message does not repeat it.
    """
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    keys: list[bytes] = []
    for place, word in enumerate(" ".join(lines).replace(",", " ").split(), 1):
        try:
            keys.append(base64.b64decode(word, validate=True))
        except (binascii.Error, ValueError):
            raise InputError(KEYS_VARIABLE, f"key {place} is not base64; {_WANTED}") from None
    return keys


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise InputError(KEYS_VARIABLE, f"{path} cannot be read: {error.strerror}") from None
    if len(data) > _MAX_KEY_FILE_BYTES or not data.strip():
        raise InputError(KEYS_VARIABLE, f"{path} is not a file of keys, one per line")
    return data.decode("ascii", errors="replace")


def _cipher(key: bytes, request_id: str) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(_expand(key, b"request " + request_id.encode(), KEY_BYTES))


def _bound(header: bytes, kind: Kind, request_id: str) -> bytes:
    return b"%s %s %s" % (header, kind.encode(), request_id.encode())


def _expand(key: bytes, purpose: bytes, length: int) -> bytes:
    try:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
    except ModuleNotFoundError:
        raise InputError(
            KEYS_VARIABLE, "keys need the package cryptography: pip install 'xuankan[secure]'"
        ) from None
    return HKDFExpand(hashes.SHA256(), length, b"xuankan sealing 1 " + purpose).derive(key)
