"""What the server must let each role do: what deploy/redis/users.acl.template grants. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from xuankan.doctor.findings import Role
from xuankan.protocol.keys import GROUP, Keys


@dataclass(frozen=True, slots=True)
class Need:
    """A command that a role sends.

    Attributes:
        command: in full, with keys of the namespace; it is only asked about, never run.
        lacking: None if the role cannot work without it, else what is lost.
    """

    command: tuple[str, ...]
    lacking: str | None = None

    @property
    def name(self) -> str:
        """As an ACL names it: `xadd`, `xgroup|create`."""
        first, second = (*self.command, "")[:2]
        has_parts = first in ("XGROUP", "XINFO")
        return f"{first}|{second}".lower() if has_parts else first.lower()


def needs(role: Role, keys: Keys) -> tuple[Need, ...]:
    """What a role needs on a shard."""
    return {"producer": _producer, "worker": _worker, "operator": _operator}[role](keys)


_RATE = "`xuankan portal --keys` cannot count calls"
_PRESSURE = "requests are not held back when the queue is full"


def _producer(keys: Keys) -> tuple[Need, ...]:
    ticket, result, queue = keys.ticket("x"), keys.result("x"), keys.stream("bulk")
    reply, history = keys.reply("x"), keys.history("bulk", "0-1")
    rate = f"{{{keys.namespace}:{keys.shard}}}:rate:x"
    return (
        *_all("TIME"),
        *_scripts(ticket, result, queue, reply, history),
        *_all(f"GET {ticket}", f"SET {ticket} x", f"DEL {ticket} {history}"),
        *_all(f"EXISTS {result}", f"HGET {result} body", f"HMGET {result} body", f"HSET {result} body x"),
        *_all(f"PEXPIRE {result} 1", f"XADD {queue} * id x", f"XACK {queue} {GROUP} 0-1"),
        *_all(f"XDEL {queue} 0-1", f"XLEN {queue}"),
        *_all(f"BLMPOP 1 1 {reply} LEFT", f"RPUSH {reply} x", f"LTRIM {reply} 0 1", f"PEXPIRE {reply} 1"),
        *_all(f"PUBLISH {keys.cancellations} x"),
        *_lacking(_PRESSURE, "INFO memory", f"XPENDING {queue} {GROUP}"),
        *_lacking(_PRESSURE, f"SMEMBERS {keys.workers}", f"MGET {keys.worker('x')}"),
        *_lacking(_RATE, f"EVAL x 1 {rate}", f"EVALSHA x 1 {rate}", f"GET {rate}", f"SET {rate} x"),
    )


def _worker(keys: Keys) -> tuple[Need, ...]:
    ticket, result, queue = keys.ticket("x"), keys.result("x"), keys.stream("bulk")
    reply, history, sign = keys.reply("x"), keys.history("bulk", "0-1"), keys.worker("x")
    names = keys.workers
    return (
        *_all("TIME", "PING"),
        *_scripts(ticket, result, queue, reply, keys.dead, history, sign, names),
        *_all(f"XREADGROUP GROUP {GROUP} x STREAMS {queue} >", f"XGROUP CREATE {queue} {GROUP} 0"),
        *_all(f"XGROUP DELCONSUMER {queue} {GROUP} x", f"XINFO CONSUMERS {queue} {GROUP}"),
        *_all(f"XPENDING {queue} {GROUP}", f"XCLAIM {queue} {GROUP} x 0 0-1", f"XACK {queue} {GROUP} 0-1"),
        *_all(f"XDEL {queue} 0-1", f"XRANGE {queue} - +"),
        *_all(f"XADD {keys.dead} * id x", f"XTRIM {keys.dead} MINID 0", f"PEXPIRE {keys.dead} 1"),
        *_all(f"EXISTS {result}", f"HSET {result} body x", f"PEXPIRE {result} 1"),
        *_all(f"GET {ticket}", f"DEL {ticket}"),
        *_all(f"RPUSH {reply} x", f"LTRIM {reply} 0 1", f"PEXPIRE {reply} 1"),
        *_all(f"RPUSH {history} x", f"LTRIM {history} 0 1", f"PEXPIRE {history} 1"),
        *_all(f"LRANGE {history} 0 1", f"DEL {history}"),
        *_all(f"SET {sign} x", f"DEL {sign}", f"EXISTS {sign}"),
        *_all(f"SADD {names} x", f"SREM {names} x", f"SMEMBERS {names}", f"PEXPIRE {names} 1"),
        *_lacking("cancelled requests are still scored", f"SUBSCRIBE {keys.cancellations}"),
    )


def _operator(keys: Keys) -> tuple[Need, ...]:
    ticket, result, queue, dead = keys.ticket("x"), keys.result("x"), keys.stream("bulk"), keys.dead
    retrying = "`xuankan dead retry` does not work"
    return (
        *_all("TIME", f"SMEMBERS {keys.workers}", f"MGET {keys.worker('x')}"),
        *_all(f"XLEN {queue}", f"XPENDING {queue} {GROUP}", f"XLEN {dead}"),
        *_lacking("`top` and `exporter` show no memory", "INFO memory"),
        *_lacking("`exporter` does not tell how old requests are", f"XINFO GROUPS {queue}"),
        *_lacking("`xuankan dead` does not work", f"XRANGE {dead} - +", f"XREVRANGE {dead} + -"),
        *_lacking("`xuankan dead purge` and `retry` do not work", f"XDEL {dead} 0-1"),
        *_lacking(retrying, *(" ".join(need.command) for need in _scripts(ticket, result, queue, dead))),
        *_lacking(retrying, f"EXISTS {ticket}", f"SET {ticket} x", f"DEL {result}"),
        *_lacking(retrying, f"EXISTS {result}", f"HEXISTS {result} x"),
        *_lacking(retrying, f"XADD {queue} * id x"),
    )


def _scripts(*keys: str) -> tuple[Need, ...]:
    named = " ".join((str(len(keys)), *keys))
    return _all(f"EVAL x {named}", f"EVALSHA x {named}")


def _all(*commands: str) -> tuple[Need, ...]:
    return tuple(Need(tuple(command.split())) for command in commands)


def _lacking(lost: str, *commands: str) -> tuple[Need, ...]:
    return tuple(Need(tuple(command.split()), lost) for command in commands)
