"""How a worker behaves; every option has a reason to be changed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from xuankan.errors import InputError
from xuankan.protocol.keys import Keys
from xuankan.protocol.sealing import Sealer

_NAME = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """Options of one worker.

    Attributes:
        url: of the Redis/Valkey server; may hold a password, so it is not shown.
        name: the consumer's name; stable over restarts, so that a worker finds what it held when it died.
        keys: the shard that it serves.
        max_batch: rows of a batch at most; an engine may allow fewer.
        max_batch_tokens: padded tokens of a batch at most; an engine's static shapes are their own bound.
        max_candidates: journals that one request may score.
        prefetch_rows: rows of each lane that wait in this worker rather than on the server; None for as many
            as keep the engine busy with whole batches.
        lease_s: how long a request stays with a worker that does not answer.
        max_deliveries: a request that was handed to workers more often than this ends as `failed`.
        block_s: how long one read waits on the server, and so how long draining may wait for a read.
        burst: stop when the streams are empty.
        metrics_port: where `/metrics`, `/healthz` and `/readyz` are served; None for nowhere, 0 for any free.
        metrics_host: the address they are served on.
        sealer: opens requests that are sealed and seals their results; by default as the environment says.

    Raises:
        InputError: an option out of its range.
    """

    url: str = field(repr=False)
    name: str
    keys: Keys = field(default_factory=Keys)
    max_batch: int = 16
    max_batch_tokens: int = 8192
    max_candidates: int = 1000
    prefetch_rows: int | None = None
    lease_s: float = 30.0
    max_deliveries: int = 5
    block_s: float = 0.5
    burst: bool = False
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
    sealer: Sealer = field(default_factory=Sealer.from_environment)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InputError("name", f"{self.name!r} is not 1 to 128 letters, digits, '.', '_', ':' or '-'")
        for option in ("max_batch", "max_batch_tokens", "max_candidates", "prefetch_rows", "max_deliveries"):
            if (value := getattr(self, option)) is not None and value < 1:
                raise InputError(option, f"must be at least 1, not {value}")
        for option in ("lease_s", "block_s"):
            if not getattr(self, option) > 0:
                raise InputError(option, f"must be greater than 0 seconds, not {getattr(self, option)}")
