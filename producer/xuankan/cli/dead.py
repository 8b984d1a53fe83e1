"""`xuankan dead`: requests that no worker could finish."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from xuankan.cli.options import namespace_option, redis_option
from xuankan.outlets import echo, json_text

if TYPE_CHECKING:
    from rich.table import Table

    from xuankan.dead_letters import DeadLetter, DeadLetters, Filter

_F = TypeVar("_F", bound=Callable[..., object])
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class _Age(click.ParamType[float]):
    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", str(value))
        if found is None:
            self.fail(f"{value!r} is not an age: use 90s, 30m, 2h or 7d, for example", param, ctx)
        return float(found[1]) * _UNITS[found[2]]


_AGE = _Age()


def _server(command: _F) -> _F:
    """The options of every command here."""
    return redis_option()(namespace_option()(command))


def _filter(command: _F) -> _F:
    """The options that choose among dead letters."""
    for option in (
        click.option("--newer-than", metavar="AGE", type=_AGE, help="Given up less than AGE ago."),
        click.option(
            "--older-than", metavar="AGE", type=_AGE, help="Given up more than AGE ago: 30m, 2h, 7d."
        ),
        click.option("--lane", type=click.Choice(["interactive", "bulk"]), help="Only those of this lane."),
        click.option(
            "--code", metavar="CODE", help="Only those with this cause, such as `too_many_deliveries`."
        ),
    ):
        command = option(command)
    return command


@click.group()
def dead() -> None:
    """Inspect requests that no worker could finish; retry or purge them.

    Such a request has failed for its producer, and a copy is kept for 7 days (about 10,000 at most). Contents
    of manuscripts are shown only by `show --payload`.
    """


@dead.command("list")
@_server
@_filter
@click.option(
    "--limit", type=click.IntRange(1), default=100, show_default=True, help="Show at most this many."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line, without contents.")
def list_(url: str, namespace: str, limit: int, as_json: bool, **chosen: Any) -> None:
    """List dead letters, the oldest first."""
    from xuankan.cli.render import console

    letters = _with(url, namespace, lambda open_: _collect(open_, _wanted(chosen), limit + 1))
    if as_json:
        for letter in letters[:limit]:
            echo(_json(letter))
        return
    if not letters:
        echo("no dead letters")
        return
    console().print(_table(letters[:limit]))
    if len(letters) > limit:
        echo(f"and more; raise --limit to show more than {limit}", err=True)


@dead.command()
@_server
@click.argument("name", metavar="ID")
@click.option("--payload", is_flag=True, help="Show the manuscript's text and candidates too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(url: str, namespace: str, name: str, payload: bool, as_json: bool) -> None:
    """Show a dead letter: its cause, its history, and what is in it by size.

    ID is its own, or its request's.
    """

    async def work(letters: DeadLetters) -> dict[str, Any]:
        letter = await letters.get(name)
        return _facts(letter) | _contents(letters, letter, payload)

    facts = _with(url, namespace, work)
    if as_json:
        echo(json_text(facts))
        return
    width = max(map(len, facts)) + 2
    for fact, value in facts.items():
        if fact != "history":
            echo(f"{fact + ':':{width}}{'–' if value is None else value}")
            continue
        for one in value:
            echo(f"{'delivery ' + str(one['delivery']) + ':':{width}}{one['worker']}, alive {one['seen']}")


@dead.command()
@_server
@_filter
@click.argument("names", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that the filters select.")
@click.option(
    "--new-id", metavar="ID", help="Queue it under this id; the failed result under the old id stays."
)
def retry(
    url: str, namespace: str, names: tuple[str, ...], everything: bool, new_id: str | None, **chosen: Any
) -> None:
    """Queue dead requests again, without their deadlines.

    The failed result is taken back in the same step, so that the new one can become visible. A letter can be
    retried once: it is gone then. If the request fails again, a new letter says so.
    """
    _check_choice(names, everything, chosen)
    if new_id is not None and (everything or len(names) != 1):
        raise click.UsageError("--new-id takes exactly one ID")

    from xuankan.errors import DeadLetterUnknown, InputError

    async def work(letters: DeadLetters) -> bool:
        well = True
        for one in await _chosen(letters, names, chosen):
            try:
                state = await letters.retry(await letters.get(one.id), new_id)
            except DeadLetterUnknown:
                state = "gone"
            except InputError as error:
                echo(str(error), err=True)
                well = False
                continue
            echo(f"{new_id or one.request_id}: {_STATES[state]}")
            well = well and state in ("accepted", "queued")
        return well

    click.get_current_context().exit(0 if _with(url, namespace, work) else 1)


_STATES = {
    "accepted": "queued",
    "queued": "is already queued; nothing was changed",
    "finished": "has another result by now; nothing was changed: use --new-id to queue it under another id",
    "gone": "was retried or purged in the meantime; nothing was changed",
}


@dead.command()
@_server
@_filter
@click.argument("names", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that the filters select.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(
    url: str, namespace: str, names: tuple[str, ...], everything: bool, yes: bool, **chosen: Any
) -> None:
    """Delete dead letters with their contents, for good. Their failed results stay until they expire."""
    _check_choice(names, everything, chosen)
    letters = _with(url, namespace, lambda open_: _chosen(open_, names, chosen))
    if not letters:
        echo("no dead letters")
        return
    if not yes:
        click.confirm(f"Delete {len(letters)} dead letters permanently?", abort=True)
    echo(f"{_with(url, namespace, lambda open_: open_.purge(letters))} deleted")


def _with(url: str, namespace: str, work: Callable[[DeadLetters], Any]) -> Any:
    import asyncio

    from xuankan.dead_letters import DeadLetters

    async def opened() -> Any:
        async with DeadLetters(url, namespace=namespace, server_timeout_s=10) as letters:
            return await work(letters)

    return asyncio.run(opened())


def _wanted(chosen: dict[str, Any]) -> Filter:
    from xuankan.dead_letters import Filter

    return Filter(chosen["code"], chosen["lane"], chosen["older_than"], chosen["newer_than"])


def _check_choice(names: tuple[str, ...], everything: bool, chosen: dict[str, Any]) -> None:
    filtered = any(value is not None for value in chosen.values())
    if bool(names) == (everything or filtered):
        raise click.UsageError("give the ids of dead letters, or select them with filters or --all")


async def _collect(letters: DeadLetters, wanted: Filter, limit: int | None = None) -> list[DeadLetter]:
    from contextlib import aclosing
    from dataclasses import replace

    found: list[DeadLetter] = []  # without what takes memory
    async with aclosing(letters.list(wanted)) as stream:
        async for letter in stream:
            found.append(replace(letter, payload=None))
            if len(found) == limit:
                break
    return found


async def _chosen(letters: DeadLetters, names: tuple[str, ...], chosen: dict[str, Any]) -> list[DeadLetter]:
    if names:
        return [await letters.get(name) for name in names]
    return await _collect(letters, _wanted(chosen))


def _table(letters: list[DeadLetter]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in ("id", "request", "cause", "lane", "given up", "by"):
        table.add_column(column, no_wrap=column in ("id", "given up"), overflow="fold")
    table.add_column("deliveries", justify="right")
    table.add_column("bytes", justify="right")
    for one in letters:
        words = (one.id, one.request_id or "–", one.code, one.lane, _time(one.buried_ms), one.worker)
        table.add_row(*map(escape, words), str(one.deliveries), f"{one.bytes:,}")
    return table


def _facts(letter: DeadLetter) -> dict[str, Any]:
    received_ms = float(letter.entry.partition("-")[0] or 0)
    return {
        "id": letter.id,
        "request": letter.request_id,
        "cause": letter.code,
        "message": letter.message,
        "lane": letter.lane,
        "received": _time(received_ms),
        "given up": _time(letter.buried_ms),
        "by": letter.worker,
        "deliveries": letter.deliveries,
        "history": [
            {"delivery": one.delivery, "worker": one.worker, "seen": _time(one.seen_ms)}
            for one in letter.history
        ],
        "bytes": letter.bytes,
    }


def _contents(letters: DeadLetters, letter: DeadLetter, payload: bool) -> dict[str, Any]:
    from xuankan.errors import InputError

    try:
        asked = letters.request(letter)
    except InputError as error:
        return {"contents": str(error)}
    facts: dict[str, Any] = {
        "tokens": len(asked.tokens),
        "candidates": len(asked.candidates),
        "top_k": asked.top_k,
        "tokenizer": asked.fingerprint,
        "catalogue": asked.catalogue,
        "deadline": None if asked.deadline_ms is None else _time(asked.deadline_ms),
    }
    if payload:
        from xuankan.protocol.template import Template

        template, tokens = Template.default(), asked.tokens.tolist()
        known = template.fingerprint == asked.fingerprint
        facts["text"] = template.tokenizer.decode(tokens) if known else None
        facts["token ids"] = tokens
        facts["candidate positions"] = asked.candidates.tolist()
    return facts


def _json(letter: DeadLetter) -> str:

    return json_text(_facts(letter))


def _time(unix_ms: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(sep=" ", timespec="seconds")[:19] + "Z"
