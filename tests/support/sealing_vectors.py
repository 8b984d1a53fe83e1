"""Test vectors of sealing: `python -m tests.support.sealing_vectors` writes docs/vectors/sealing.json.

Made here step by step with the primitives, as docs/protocol.md describes them, and not by the product.
"""

from __future__ import annotations

import hmac
import json
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.support.vectors import PATH as WIRE

PATH = WIRE.with_name("sealing.json")
_KEY = bytes(range(32))
_NONCE = bytes(range(100, 112))


def _expand(key: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand with SHA-256 for up to 32 bytes (RFC 5869, section 2.3)."""
    return hmac.digest(key, info + b"\x01", "sha256")[:length]


def _case(name: str, kind: str, request_id: str, body: bytes) -> dict[str, str]:
    key_id = _expand(_KEY, b"xuankan sealing 1 key id", 4)
    header = b"XKS1" + key_id
    request_key = _expand(_KEY, b"xuankan sealing 1 request " + request_id.encode(), 32)
    bound = header + b" " + kind.encode() + b" " + request_id.encode()
    return {
        "name": name,
        "key": _KEY.hex(),
        "key_id": key_id.hex(),
        "kind": kind,
        "request_id": request_id,
        "request_key": request_key.hex(),
        "nonce": _NONCE.hex(),
        "associated_data": bound.hex(),
        "body": body.hex(),
        "sealed": (header + _NONCE + AESGCM(request_key).encrypt(_NONCE, body, bound)).hex(),
    }


def build() -> dict[str, Any]:
    """The content of sealing.json."""
    messages = json.loads(WIRE.read_text())
    request, result = messages["requests"][0], messages["results"][0]
    sealed = [
        _case("a request", "request", request["content"]["id"], bytes.fromhex(request["hex"])),
        _case("its result", "result", result["content"]["id"], bytes.fromhex(result["hex"])),
        _case("nothing", "request", "a", b""),
    ]
    first = {name: sealed[0][name] for name in ("key", "kind", "request_id", "sealed")}
    return {
        "sealed": sealed,
        "not_opened": [
            {"name": "of another request", **first, "request_id": "b"},
            {"name": "of another kind", **first, "kind": "result"},
            {"name": "changed", **first, "sealed": first["sealed"][:-2] + "00"},
            {"name": "cut short", **first, "sealed": first["sealed"][:40]},
            {"name": "of an unknown key", **first, "key": bytes(32).hex()},
        ],
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps(build(), indent=1) + "\n")
