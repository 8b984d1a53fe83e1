"""Lua scripts as typed functions: the names that a script uses are the parameters of a Python function.

    @script('''
    if redis.call('EXISTS', ticket) == 1 then return 0 end
    redis.call('SET', ticket, entry, 'PX', lifetime_ms)
    return 1
    ''')
    def _guard(*, ticket: Key, entry: str, lifetime_ms: int) -> int: ...

Parameters annotated as `Key` or `KeyList` become `KEYS`, all others `ARGV`, both in the order of the
signature: that order is what other languages send, and so part of the protocol. Calling the function makes a
`Call`, which can be sent alone or with others in one round trip.

Every argument reaches Lua as a string, and a script that compares numbers says `tonumber`. They are not
converted up front, because a Lua number that is handed on to a command may be written as `1e+9`, which no
command takes as an integer.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    ParamSpec,
    TypeVar,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

P = ParamSpec("P")
R = TypeVar("R")

Value = str | bytes | int | float
_KEY: Final = object()
Key = Annotated[str, _KEY]
"""The name of one key that a script touches."""
KeyList = Annotated[Sequence[str], _KEY]
"""Any number of keys; the last among the keys. In Lua a table."""

_RESERVED: Final = re.compile(
    "and|break|do|else|elseif|end|false|for|function|if|in|local|nil|not|or|repeat|return|then|true|until|while"
    "|redis|cjson|math|string|table|ipairs|unpack|tonumber|KEYS|ARGV"
)
"""What cannot be, or had better not be, a local variable's name in Lua."""


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    """A script with its keys and arguments, ready to send; `R` is the server's plain answer.

    Attributes:
        text: what the server runs.
        sha: the name under which it keeps that.
        keys: all that the script touches.
        args: its arguments.
    """

    text: str
    sha: str
    keys: tuple[str, ...]
    args: tuple[Value, ...]

    def by_hash(self) -> tuple[Value, ...]:
        """The EVALSHA command."""
        return ("EVALSHA", self.sha, len(self.keys), *self.keys, *self.args)

    def by_text(self) -> tuple[Value, ...]:
        """The EVAL command, which also teaches the server the script."""
        return ("EVAL", self.text, len(self.keys), *self.keys, *self.args)

    async def send(self, redis: Redis) -> R:
        """Run on the server and return its plain answer.

        Raises:
            redis.exceptions.RedisError: as for any command.
        """
        execute = cast(Any, redis).execute_command
        try:
            return await execute(*self.by_hash())
        except NoScriptError:
            return await execute(*self.by_text())


async def send_all(redis: Redis, calls: Sequence[Call[R]]) -> list[R | Exception]:
    """Run scripts in one round trip, without a transaction; one that fails gives its error.

    Raises:
        redis.exceptions.RedisError: the server was not reached.
    """
    pipeline = cast(Any, redis.pipeline(transaction=False))
    for call in calls:
        pipeline.execute_command(*call.by_hash())
    answers = cast(list[R | Exception], await pipeline.execute(raise_on_error=False))
    for place, answer in enumerate(answers):
        if isinstance(answer, NoScriptError):
            try:
                answers[place] = await calls[place].send(redis)
            except Exception as error:
                answers[place] = error
    return answers


def first_error(answers: Sequence[R | Exception]) -> list[R]:
    """The answers, if none of them is an error.

    Raises:
        Exception: the first that is one.
    """
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return cast(list[R], answers)


class Script(Generic[P, R]):
    """A Lua script; `text` is what the server runs, and `sha` its hash, so the name of this very version."""

    def __init__(self, function: Callable[P, R], body: str, library: str = "", flags: str = "") -> None:
        hints = get_type_hints(function, include_extras=True)
        parameters = inspect.signature(function).parameters.values()
        self._defaults = {one.name: one.default for one in parameters if one.default is not one.empty}
        self._keys = [one.name for one in parameters if _is_key(hints[one.name])]
        self._args = [one.name for one in parameters if one.name not in self._keys]
        self._lists = {one.name for one in parameters if _is_list(hints[one.name])}
        for one in parameters:
            if one.kind is not one.KEYWORD_ONLY or _RESERVED.fullmatch(one.name):
                raise TypeError(f"{one.name}: not passed by name, or by one that Lua has another use for")
        for names in (self._keys, self._args):
            if self._lists & set(names[:-1]):
                raise TypeError("a list of keys, or of arguments, comes last")
        names = [
            *(self._binding(name, "KEYS", place) for place, name in enumerate(self._keys, 1)),
            *(self._binding(name, "ARGV", place) for place, name in enumerate(self._args, 1)),
        ]
        shebang = [f"#!lua flags={flags}"] if flags else []
        parts = (*shebang, library.strip(), *names, body.strip())
        self.text = "\n".join(part for part in parts if part) + "\n"
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, *_: P.args, **named: P.kwargs) -> Call[R]:
        """A call with these. What is None is left out, and nil in Lua: only the last may be."""
        values = self._defaults | named
        return Call(self.text, self.sha, self._pick(self._keys, values), self._pick(self._args, values))

    def _binding(self, name: str, table: str, place: int) -> str:
        if name in self._lists:
            loop = f"for i = {place}, #{table} do {name}[#{name} + 1] = {table}[i] end"
            return f"local {name} = {{}}\n{loop}"
        return f"local {name} = {table}[{place}]"

    def _pick(self, names: Sequence[str], values: dict[str, Any]) -> tuple[Any, ...]:
        found: list[Any] = []
        for name in names:
            if name in self._lists:
                found += values[name]
            else:
                found.append(values[name])
        while found and found[-1] is None:
            found.pop()
        if None in found:
            raise TypeError(f"only the last of {', '.join(names)} may be left out")
        return tuple(found)


def script(body: str, *, library: str = "", flags: str = "") -> Callable[[Callable[P, R]], Script[P, R]]:
    """Make a `Script` of a function without a body.

    Args:
        body: Lua that uses the function's parameters by their names.
        library: Lua functions that stand before it.
        flags: of the script, see "Eval flags" in the server's documentation.
    """
    return lambda function: Script(function, body, library, flags)


def _is_key(hint: Any) -> bool:
    return any(_KEY in getattr(one, "__metadata__", ()) for one in (hint, *get_args(hint)))


def _is_list(hint: Any) -> bool:
    bare = get_args(hint)[0] if hint == KeyList else hint
    return get_origin(bare) is Sequence
