"""Xuankan (选刊) ranks the journals that fit a manuscript. This is what a portal installs.

    async with Producer("redis://localhost:6379") as producer:
        ranking = await producer.rank(Manuscript(title, abstract))

`SyncProducer` is the same without `async`, `embedded` runs a private server and worker, and
`errors` holds everything that is raised. Names are imported when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xuankan.candidates import Filters
    from xuankan.catalogue import Catalogue, Journal
    from xuankan.client.bulk import Outcome
    from xuankan.client.limits import Limits, Pressure
    from xuankan.client.options import RankingOptions
    from xuankan.client.producer import Producer
    from xuankan.client.rankings import Ranking, RankingTimings
    from xuankan.client.requests import RequestStatus, Ticket
    from xuankan.client.sync import SyncProducer
    from xuankan.embedded.servers import EmbeddedServer, EmbeddedWorker
    from xuankan.errors import XuankanError
    from xuankan.manuscript import Manuscript
    from xuankan.protocol.ranked import RankedJournal

__all__ = [
    "Catalogue",
    "EmbeddedServer",
    "EmbeddedWorker",
    "Filters",
    "Journal",
    "Limits",
    "Manuscript",
    "Outcome",
    "Pressure",
    "Producer",
    "RankedJournal",
    "Ranking",
    "RankingOptions",
    "RankingTimings",
    "RequestStatus",
    "SyncProducer",
    "Ticket",
    "XuankanError",
]

_HOMES = {
    "Catalogue": "catalogue",
    "EmbeddedServer": "embedded.servers",
    "EmbeddedWorker": "embedded.servers",
    "Filters": "candidates",
    "Journal": "catalogue",
    "Limits": "client.limits",
    "Manuscript": "manuscript",
    "Outcome": "client.bulk",
    "Pressure": "client.limits",
    "Producer": "client.producer",
    "RankedJournal": "protocol.wire",
    "Ranking": "client.rankings",
    "RankingOptions": "client.options",
    "RankingTimings": "client.rankings",
    "RequestStatus": "client.requests",
    "SyncProducer": "client.sync",
    "Ticket": "client.requests",
    "XuankanError": "errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'xuankan' has no attribute {name!r}")
    return getattr(import_module(f"xuankan.{_HOMES[name]}"), name)
