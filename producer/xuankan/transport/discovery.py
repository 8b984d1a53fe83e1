"""Where the server is now: the master of a Sentinel set, or the node of a Cluster that has our shard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from redis import exceptions as faults
from redis.crc import key_slot

from xuankan.transport.connections import link_class
from xuankan.transport.url import Address, Node

QUESTION_TIMEOUT_S: Final = 1.0
"""Within this time one Sentinel or node connects, and within this time it answers; then the next is asked."""


class Locator:
    """Asks who has the data; every connection of a client asks before it connects (see `links.Guide`).

    Args:
        address: of the Sentinels or of nodes of the Cluster.
        key: one of the shard; on a Cluster all of them lie on one node.
        options: of the connections that ask, without timeouts.
    """

    def __init__(self, address: Address, key: str, options: dict[str, Any]) -> None:
        self._address = address
        self._slot = key_slot(key.encode())
        self._options = options
        self._nodes = list(address.nodes)  # the one to ask first is the first
        self._hint: Node | None = None
        self._told_by: Node | None = None

    async def locate(self) -> Node:
        """Host and port.

        Raises:
            redis.exceptions.ConnectionError: nobody of those asked knows.
        """
        # A hint is followed once: where it was wrong, asking helps more than following it again.
        (hint, self._hint), self._told_by = (self._hint, None), None
        if hint is not None:
            return hint
        problem: Exception | None = None
        for node in list(self._nodes):
            try:
                found = await self._ask(node)
            except (faults.RedisError, OSError) as error:
                problem = error
            else:
                if found is not None:
                    self._told_by = node
                    return found
            self._ask_last(node)
        sentinel = self._address.kind == "sentinel"
        what = f"the master {self._address.master!r}" if sentinel else f"slot {self._slot}"
        raise faults.ConnectionError(
            f"no {'Sentinel' if sentinel else 'node'} knows where {what} is"
            + (f": {problem}" if problem is not None else "")
        ) from problem

    def moved(self, node: Node) -> None:
        """Take note of what a node of the Cluster said."""
        self._hint = node

    def misled(self) -> None:
        """Ask others first: who told last may be cut off from them."""
        if self._told_by is not None:
            self._ask_last(self._told_by)

    def _ask_last(self, node: Node) -> None:
        if node in self._nodes:
            self._nodes.remove(node)
            self._nodes.append(node)

    async def _ask(self, node: Node) -> Node | None:
        if self._address.kind == "sentinel":
            master = cast(
                Sequence[bytes] | None,
                await self._answer(node, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._address.master),
            )
            return None if master is None else (master[0].decode(), int(master[1]))
        found: Node | None = None
        others: list[Node] = []
        ranges = cast(Sequence[Sequence[Any]], await self._answer(node, "CLUSTER", "SLOTS"))
        for first, last, *members in ranges:
            places = [_place(member, node) for member in members]
            others += places
            if first <= self._slot <= last:
                found = places[0]
        # The nodes of the URL may all be gone one day.
        self._nodes = list(dict.fromkeys([node, *others, *self._address.nodes]))
        return found

    async def _answer(self, node: Node, *command: str) -> Any:
        link = link_class(tls=self._address.tls, unix=False)(
            host=node[0],
            port=node[1],
            socket_timeout=QUESTION_TIMEOUT_S,
            socket_connect_timeout=QUESTION_TIMEOUT_S,
            **self._options,
        )
        try:
            await link.connect()
            await link.send_command(*command)
            return await link.read_response()
        finally:
            await link.disconnect()


def _place(member: Sequence[Any], asked: Node) -> Node:
    """A node's host and port; one that does not know its own host leaves it empty, or says "?"."""
    host = cast(bytes | None, member[0])
    return (host.decode() if host and host != b"?" else asked[0]), int(member[1])
