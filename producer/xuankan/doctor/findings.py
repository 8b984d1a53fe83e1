"""What a check comes to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ok", "warning", "failure", "unknown"]
Role = Literal["producer", "worker", "operator"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check.

    Attributes:
        area: what was looked at: `server`, `queue`, `package` or `worker`.
        name: of the check, within its area.
        state: `failure`: something does not work, or accepted requests can get lost. `warning`: it works, but
            not as well or as safely as it could. `unknown`: it cannot be seen from here.
        fact: what was seen.
        remedy: what to do about it; empty if nothing.
    """

    area: str
    name: str
    state: State
    fact: str
    remedy: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def by_state(bad: State | None, area: str, name: str, fact: str, remedy: str = "") -> Finding:
    """A finding; `bad` is None if all is well, and then no remedy is given."""
    return Finding(area, name, bad or "ok", fact, remedy if bad else "")
