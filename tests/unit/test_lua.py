"""Lua scripts as typed functions: what a signature becomes, on the server too."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.support.world import Queue
from xuankan.protocol.lua import Key, KeyList, Script, first_error, script, send_all

MODULES = (
    *("protocol.scripts", "protocol.delivery", "protocol.leases"),
    *("protocol.consumers", "protocol.heartbeat"),
    *("portal.limiter", "client.requests", "dead_letters"),
)


@script("return {first, second or 'none', flag, number + 1, table.concat(rest, ',')}")
def everything(
    *, first: Key, second: Key | None, flag: str, number: int, rest: Sequence[str | bytes]
) -> list[Any]: ...


@script("return {#listed, listed[2] or 'none', note or 'none'}")
def listed(*, listed: KeyList, note: str | None = None) -> list[Any]: ...


@script("return redis.error_reply('no')")
def failing(*, key: Key) -> list[Any]: ...


async def test_names_reach_lua_and_what_is_none_is_nil(queue: Queue) -> None:
    call = everything(first="{x}a", second="{x}b", flag="", number=41, rest=["p", b"q"])
    assert await call.send(queue.client) == [b"{x}a", b"{x}b", b"", 42, b"p,q"]
    call = everything(first="{x}a", second=None, flag="f", number=0, rest=[])
    assert call.keys == ("{x}a",)
    assert await call.send(queue.client) == [b"{x}a", b"none", b"f", 1, b""]
    assert await listed(listed=["{x}a", "{x}b"]).send(queue.client) == [2, b"{x}b", b"none"]
    assert await listed(listed=["{x}a"], note="n").send(queue.client) == [1, b"none", b"n"]


async def test_many_calls_are_one_round_trip_also_where_the_server_forgot_some(queue: Queue) -> None:
    await queue.command("SCRIPT", "FLUSH")
    await listed(listed=[]).send(queue.client)  # knows this one
    calls = [listed(listed=["{x}a"]), failing(key="{x}a"), listed(listed=["{x}a", "{x}b"], note="n")]
    first, second, third = await send_all(queue.client, calls)
    assert (first, third) == ([1, b"none", b"none"], [2, b"{x}b", b"n"])
    assert isinstance(second, Exception)
    with pytest.raises(type(second), match="no"):
        first_error([first, second, third])
    assert first_error([first, third]) == [first, third]


def test_a_value_may_be_left_out_only_at_the_end() -> None:
    @script("return 1")
    def two(*, key: Key, first: str | None = None, second: str | None = None) -> int: ...

    assert two(key="k").args == ()
    assert two(key="k", first="1").args == ("1",)
    with pytest.raises(TypeError, match="only the last of first, second"):
        two(key="k", second="2")


def test_a_signature_that_lua_cannot_take_is_refused() -> None:
    def positional(key: Key) -> None: ...

    def reserved(*, end: str) -> None: ...

    def middle(*, many: Sequence[str], last: str) -> None: ...

    functions: list[Callable[..., None]] = [positional, reserved, middle]
    for function in functions:
        with pytest.raises(TypeError):
            script("return 1")(function)


def every_script() -> dict[str, Script[..., Any]]:
    modules = [importlib.import_module(f"xuankan.{name}") for name in MODULES]
    return {
        f"{module.__name__}.{name}": value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, Script)
    }


def test_no_script_counts_its_arguments_by_hand() -> None:
    scripts = every_script()
    assert len(scripts) == 14
    for name, one in scripts.items():
        body = re.sub(
            r"^(local \w+ = (KEYS|ARGV)\[\d+\]|for i = \d+, #(KEYS|ARGV) .*)$", "", one.text, flags=re.M
        )
        assert "KEYS" not in body, name
        assert "ARGV" not in body, name
        # What is declared is used, and nothing else is global.
        for parameter in re.findall(r"^local (\w+) = (?:KEYS|ARGV|\{\})", one.text, flags=re.M):
            assert re.search(rf"\b{parameter}\b", body), f"{name} does not use {parameter}"


def test_a_script_has_the_same_hash_in_every_process_and_another_one_for_another_text() -> None:
    def count(*, key: Key) -> int: ...

    same = [script("return #key")(count).sha for _ in range(2)]
    assert len({*same, script("return #key + 1")(count).sha}) == 2
    assert len({one.sha for one in every_script().values()}) == len(every_script())
