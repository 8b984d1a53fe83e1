"""Every error that Xuankan raises on purpose.

XuankanError
├── InputError (ValueError)        what the caller passed; nothing was enqueued
│   ├── ManuscriptError            a title, abstract or keyword that cannot be ranked
│   ├── Unreadable                 a file of which nothing can be had: of no known kind, damaged, locked
│   ├── FilterError                a filter that makes no sense or leaves no journal
│   ├── UnknownJournal             a journal that the catalogue does not hold
│   └── RequestConflict            a request id already used for something else
├── ProtocolError                  bytes that are not a message of this protocol
│   ├── UnsupportedVersion         a message of another protocol version
│   └── SealError                  one that the keys here cannot open, or that should have been sealed
├── RequestError                   a request that was accepted and ended without a ranking
│   ├── RequestInvalid             the worker refused it (`code` says why)
│   │   └── RequestIncompatible    its tokenizer, template or catalogue is not the worker's
│   ├── RequestExpired             its deadline passed first
│   ├── RequestCancelled           it was cancelled
│   └── RequestFailed              the worker could not score it
├── QueueFull                      the queue is full for now; nothing was enqueued
├── WaitTimeout (TimeoutError)     no result yet: the request is still queued or running
├── ResultUnknown (LookupError)    no such request, or its result's lifetime is over
├── DeadLetterUnknown (LookupError)  no such entry on the dead stream
├── ServerUnavailable (ConnectionError)  the Redis/Valkey server cannot be reached or refuses
├── CatalogueError                 a catalogue or journal table that cannot be read or is inconsistent
├── ReleaseError                   a model release that cannot be read or does not fit
└── EngineError                    an engine that failed
    ├── EngineUnavailable          an engine that cannot run here (library, file or device missing)
    ├── MemoryExhausted            no memory left in the process or on the device; no request's fault
    └── DeviceLost                 a device on which nothing runs until the process is restarted
"""

from __future__ import annotations


class XuankanError(Exception):
    """The base class: catch it to catch everything that Xuankan raises on purpose."""


class InputError(XuankanError, ValueError):
    """What the caller passed cannot be used. `field` names it; nothing was enqueued."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class ManuscriptError(InputError):
    """A title, abstract or keyword that cannot be ranked."""


class Unreadable(InputError):
    """A file of which nothing can be had. `field` is its name; `reason` says why, and the way out."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.reason = reason


class FilterError(InputError):
    """A filter that makes no sense, or filters that leave no journal."""


class UnknownJournal(InputError, LookupError):
    """A journal that the catalogue does not hold."""


class RequestConflict(InputError):
    """A request id that was used for another manuscript, or for other options; the first one counts."""


class ProtocolError(XuankanError):
    """Bytes that are not a message of this protocol. `field` is the offending field, or `message`."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class UnsupportedVersion(ProtocolError):
    """A message of a protocol version that this build does not speak."""


class SealError(ProtocolError):
    """A message that cannot be opened with the keys at hand, or that is not sealed where that is required."""

    def __init__(self, message: str) -> None:
        super().__init__("message", message)


class RequestError(XuankanError):
    """A request that was accepted and ended without a ranking.

    `request_id` is the request, `code` a stable word for programs (docs/protocol.md lists them).
    """

    def __init__(self, request_id: str, code: str, message: str) -> None:
        super().__init__(f"request {request_id}: {message} [{code}]")
        self.request_id = request_id
        self.code = code


class RequestInvalid(RequestError):
    """The worker refused the request; sending it again unchanged cannot succeed."""


class RequestIncompatible(RequestInvalid):
    """The request was made for another tokenizer, template or catalogue than the worker's."""


class RequestExpired(RequestError):
    """The request's deadline passed before it was scored."""


class RequestCancelled(RequestError):
    """The request was cancelled before it was scored."""


class RequestFailed(RequestError):
    """The worker could not score the request; it may succeed if sent again under a new id."""


class QueueFull(XuankanError):
    """The queue is full for now; nothing was enqueued. The message suggests what to do.

    Attributes:
        lane: the lane that is full.
        reason: `wait` (too much work ahead), `length` (too many requests), `memory` (the server's) or
            `no_workers` (requests are waiting and no worker is alive).
        expected_wait_s: how long the work ahead takes by what is measured; None if that is not known.
    """

    def __init__(self, lane: str, reason: str, expected_wait_s: float | None, message: str) -> None:
        super().__init__(f"the {lane} queue is full: {message}")
        self.lane = lane
        self.reason = reason
        self.expected_wait_s = expected_wait_s


class WaitTimeout(XuankanError, TimeoutError):
    """No result within the wait. The request is still queued or running: wait again, or cancel it."""


class ResultUnknown(XuankanError, LookupError):
    """No request of this id is queued, and no result of it is kept."""


class DeadLetterUnknown(XuankanError, LookupError):
    """No dead letter has this id, or is of this request."""


class ServerUnavailable(XuankanError, ConnectionError):
    """The Redis/Valkey server cannot be reached, or refuses to serve."""


class CatalogueError(XuankanError):
    """A catalogue or journal table that cannot be read or is inconsistent."""


class ReleaseError(XuankanError):
    """A model release that cannot be read, is damaged, or does not fit this worker."""


class EngineError(XuankanError):
    """An engine that failed to load a model or to score a batch."""


class EngineUnavailable(EngineError):
    """An engine that cannot run here: a library, a file or a device is missing."""


class MemoryExhausted(EngineError):
    """No memory is left in the process or on its device, which says nothing of what was to be run."""


class DeviceLost(EngineError):
    """A device that failed for good: nothing runs on it until the process is restarted."""
