"""Sealing: what was sealed opens with its key, for its request, as its kind, and in no other way."""

from __future__ import annotations

import base64
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.sealing_vectors import PATH, build
from xuankan.errors import InputError, ProtocolError, SealError
from xuankan.protocol.sealing import OVERHEAD_BYTES, Kind, Sealer, is_sealed, parse_keys
from xuankan.protocol.wire import MAX_REQUEST_BYTES

ONE, TWO = bytes(range(32)), bytes(range(32, 64))
BODY = b"\x81\xa1v\x01 the manuscript"


@given(st.binary(max_size=300), st.from_regex(r"[A-Za-z0-9._:-]{1,128}", fullmatch=True))
def test_what_is_sealed_opens_again(body: bytes, request_id: str) -> None:
    sealed = Sealer([ONE]).seal("request", request_id, body)
    assert is_sealed(sealed)
    assert len(sealed) == len(body) + OVERHEAD_BYTES
    assert Sealer([ONE]).open("request", request_id, sealed) == body


def test_nothing_of_the_body_is_seen_and_no_two_are_alike() -> None:
    sealed = {Sealer([ONE]).seal("request", "a", BODY) for _ in range(50)}
    assert len(sealed) == 50
    assert not any(b"manuscript" in one for one in sealed)


def test_a_body_is_bound_to_its_request_its_kind_and_its_key() -> None:
    sealed = Sealer([ONE]).seal("request", "a", BODY)
    others: tuple[tuple[Kind, str], ...] = (("request", "b"), ("result", "a"), ("request", "a request"))
    for kind, request_id in others:
        with pytest.raises(SealError, match="cannot be opened: it was changed"):
            Sealer([ONE]).open(kind, request_id, sealed)
    with pytest.raises(SealError, match=r"sealed with key [0-9a-f]{8}; the keys here are [0-9a-f]{8}"):
        Sealer([TWO]).open("request", "a", sealed)
    with pytest.raises(SealError, match="there is no key here: XUANKAN_KEYS"):
        Sealer().open("request", "a", sealed)


@given(st.data())
def test_a_changed_body_does_not_open(data: st.DataObject) -> None:
    sealed = bytearray(Sealer([ONE]).seal("request", "a", BODY))
    place = data.draw(st.integers(len(b"XKS1"), len(sealed) - 1))
    sealed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SealError):
        Sealer([ONE]).open("request", "a", bytes(sealed))
    for length in range(len(b"XKS1"), len(sealed)):
        with pytest.raises(SealError):
            Sealer([ONE]).open("request", "a", bytes(sealed[:length]))


def test_rotation() -> None:
    old, both, new = Sealer([ONE]), Sealer([TWO, ONE]), Sealer([TWO])
    assert both.open("result", "a", old.seal("result", "a", BODY)) == BODY
    assert new.open("result", "a", both.seal("result", "a", BODY)) == BODY
    assert both.key_ids == new.key_ids + old.key_ids


def test_without_keys_bodies_pass_and_with_keys_plain_ones_are_still_read() -> None:
    assert Sealer().seal("request", "a", BODY) == BODY
    assert Sealer().open("request", "a", BODY) == BODY
    assert Sealer([ONE]).open("request", "a", BODY) == BODY


def test_a_sealed_body_that_is_too_large_is_not_opened() -> None:
    sealed = Sealer([ONE]).seal("request", "a", b"x" * (MAX_REQUEST_BYTES + 1))
    with pytest.raises(ProtocolError, match="at most 262180 are read"):
        Sealer([ONE]).open("request", "a", sealed)
    assert (
        len(Sealer([ONE]).open("request", "a", Sealer([ONE]).seal("request", "a", bytes(262_144)))) == 262_144
    )


def text(key: bytes) -> str:
    return base64.b64encode(key).decode()


def test_keys_come_from_the_environment_or_a_file(tmp_path: Path) -> None:
    wanted = Sealer([ONE, TWO]).key_ids
    for given_as in (f"{text(ONE)},{text(TWO)}", f" {text(ONE)}\n{text(TWO)} "):
        assert Sealer.from_environment({"XUANKAN_KEYS": given_as}).key_ids == wanted
    file = tmp_path / "keys"
    file.write_text(f"# of November\n{text(ONE)}\n# the one before\n{text(TWO)}\n")
    sealer = Sealer.from_environment({"XUANKAN_KEYS": f"@{file}", "XUANKAN_REQUIRE_SEALED": "1"})
    assert sealer.key_ids == wanted
    assert sealer.required
    assert Sealer.from_environment({}).key_ids == ()
    assert not Sealer.from_environment({"XUANKAN_REQUIRE_SEALED": "0"}).required


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"XUANKAN_KEYS": "sêcret-passphrase"}, "key 1 is not base64; a key is 32 random bytes in base64"),
        ({"XUANKAN_KEYS": text(ONE) + " c2VjcmV0"}, "key 2 has 6 bytes; a key is 32 random bytes"),
        ({"XUANKAN_KEYS": f"{text(ONE)} {text(ONE)}"}, "key 2 is there twice"),
        ({"XUANKAN_KEYS": " ".join(text(os.urandom(32)) for _ in range(17))}, "more than 16 keys"),
        ({"XUANKAN_KEYS": "@/nowhere/keys"}, "/nowhere/keys cannot be read: No such file"),
        ({"XUANKAN_KEYS": "@/dev/zero"}, "/dev/zero is not a file of keys"),
        ({"XUANKAN_KEYS": "@/dev/null"}, "/dev/null is not a file of keys"),
        ({"XUANKAN_REQUIRE_SEALED": "1"}, "it is set, but XUANKAN_KEYS holds no key"),
        ({"XUANKAN_KEYS": text(ONE), "XUANKAN_REQUIRE_SEALED": "perhaps"}, "must be 0 or 1"),
    ],
)
def test_unusable_keys_are_named_but_not_shown(environment: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Sealer.from_environment(environment)
    for word in environment.get("XUANKAN_KEYS", "").replace("@", " ").split():
        assert word.startswith("/") or word not in str(caught.value)


def test_keys_are_in_no_repr_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    sealer = Sealer([ONE])
    for key_number in range(40):
        other = Sealer([key_number.to_bytes(32, "big")])
        with pytest.raises(SealError):
            sealer.open("request", "a", other.seal("request", "a", BODY))
    assert sealer.key_ids[0] in repr(sealer)
    for secret in (text(ONE), ONE.hex(), repr(ONE)):
        assert secret not in repr(sealer) + caplog.text
    assert 0 < len(caplog.records) <= 16  # a flood of unknown keys is no flood of lines


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("cryptography")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(InputError, match=r"pip install 'xuankan\[secure\]'"):
        Sealer(parse_keys(text(ONE)))
    assert Sealer().open("request", "a", BODY) == BODY


def test_the_vectors_for_other_languages() -> None:
    vectors: dict[str, Any] = json.loads(PATH.read_text())
    assert vectors == build()
    for case in vectors["sealed"]:
        sealer = Sealer([bytes.fromhex(case["key"])])
        assert sealer.key_ids == (case["key_id"],)
        opened = sealer.open(case["kind"], case["request_id"], bytes.fromhex(case["sealed"]))
        assert opened == bytes.fromhex(case["body"])
    for case in vectors["not_opened"]:
        sealer = Sealer([bytes.fromhex(case["key"])])
        with pytest.raises(SealError):
            sealer.open(case["kind"], case["request_id"], bytes.fromhex(case["sealed"]))
