"""A producer process of a run: asks what the plan says, and writes down what it is told."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tests.chaos.plan import Work
from tests.chaos.world import KEYS, OPTIONS, digest, manuscript, preparer
from xuankan.client.producer import Producer
from xuankan.errors import (
    QueueFull,
    RequestCancelled,
    RequestExpired,
    RequestFailed,
    RequestInvalid,
    ResultUnknown,
    ServerUnavailable,
    WaitTimeout,
)

_log = logging.getLogger(__name__)
_TASKS: Final = 12
"""Requests that a producer has in flight."""
_PATIENCE_S: Final = 20.0


def main(url: str, number: int, work: Sequence[Work], record: str) -> None:
    """Ask for everything that `record` has no line of yet."""
    logging.basicConfig(level="INFO", format="%(asctime)s %(name)s %(message)s")
    known = Path(record)
    done = {line["id"] for line in map(json.loads, read_lines(known)) if line["by"] == number}
    asyncio.run(_Asker(url, number, record).run([one for one in work if one.id not in done]))


def read_lines(path: Path) -> list[str]:
    """The whole lines of a file; its writer may have been killed within the last."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    return [line for line in lines[:-1] if line.endswith("}") and line.startswith("{")]


class _Asker:
    def __init__(self, url: str, number: int, record: str) -> None:
        self._url = url
        self._number = number
        self._file = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(self._file, b"\n")  # ends a line that a killed predecessor began

    async def run(self, work: Sequence[Work]) -> None:
        ready = preparer()
        left = deque(work)
        producer = Producer(
            self._url,
            namespace=KEYS.namespace,
            catalogue=ready.catalogue,
            template=ready.template,
            first_stage=ready.first_stage,
            server_timeout_s=_PATIENCE_S,
        )
        async with producer, asyncio.TaskGroup() as tasks:
            for _ in range(_TASKS):
                tasks.create_task(self._ask_all(producer, left))

    async def _ask_all(self, producer: Producer, left: deque[Work]) -> None:
        while left:
            one = left.popleft()
            seen: dict[str, Any] = {"id": one.id, "by": self._number}
            while True:
                try:
                    seen |= await self._ask(producer, one, seen)
                except ServerUnavailable as error:
                    seen["gave_up"] = seen.get("gave_up", 0) + 1
                    _log.warning("%s: %s", one.id, error)
                    continue
                except Exception as error:
                    _log.exception("%s", one.id)
                    seen |= {"saw": "error", "error": repr(error)}
                break
            os.write(self._file, (json.dumps(seen) + "\n").encode())

    async def _ask(self, producer: Producer, one: Work, seen: dict[str, Any]) -> dict[str, Any]:
        text = manuscript(one.text, one.marker)
        deadline_s = one.after_s if one.action == "expire" else None
        options = replace(OPTIONS, lane=one.lane, deadline_s=deadline_s)
        try:
            if one.action in ("submit", "cancel"):
                await producer.submit(text, options, request_id=one.id)
                if one.action == "cancel":
                    await asyncio.sleep(one.after_s)
                    seen["cancel"] = await producer.cancel(one.id)
                ranking = await producer.result(one.id)
            else:
                ranking = await producer.rank(text, options, request_id=one.id)
        except RequestInvalid as error:
            return {"saw": "invalid", "code": error.code}
        except RequestFailed as error:
            return {"saw": "failed", "code": error.code}
        except RequestCancelled:
            return {"saw": "cancelled"}
        except RequestExpired:
            return {"saw": "expired"}
        except (WaitTimeout, QueueFull):
            return {"saw": "nothing in time"}
        except ResultUnknown:
            return {"saw": "unknown"}
        return {"saw": "ok", "digest": digest(ranking), "deliveries": ranking.deliveries}
