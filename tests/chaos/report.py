"""What a run found: a table for people, JSON for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console, Group
from rich.table import Table

from tests.chaos.audit import Findings
from tests.chaos.plan import Plan
from tests.chaos.watch import Company

_SHOWN: Final = 12
_BARS: Final = ("lost", "duplicated", "wrong", "innocent failed")


@dataclass(frozen=True, slots=True)
class Report:
    """The account of a run.

    Attributes:
        faults: injected, by kind.
        deaths: of workers, by cause.
        recovery_s: of each request of a dead worker, by what else failed meanwhile.
        asked_s: from the start to the last answer.
        grown_bytes: what the server uses more than before.
    """

    plan: Plan
    server: str
    findings: Findings
    faults: Counter[str]
    deaths: Counter[str]
    recovery_s: Mapping[Company, Sequence[float]]
    asked_s: float
    grown_bytes: int

    @property
    def good(self) -> bool:
        """Whether everything holds."""
        return not self.findings.wrong

    def as_json(self) -> dict[str, Any]:
        """Everything, for programs."""
        return {
            "seed": self.plan.seed,
            "requests": self.plan.requests,
            "server": self.server,
            "good": self.good,
            "faults": dict(self.faults),
            "worker_deaths": dict(self.deaths),
            "outcomes": dict(self.findings.outcomes),
            "deliveries": {str(n): count for n, count in sorted(self.findings.deliveries.items())},
            **{kind: self.findings.count(kind) for kind in _BARS},
            "findings": self.findings.wrong,
            "worst_recovery_s": {company: _worst(found) for company, found in self.recovery_s.items()},
            "recovered": {company: len(found) for company, found in self.recovery_s.items()},
            "seconds": round(self.asked_s, 2),
            "requests_per_s": round(self.plan.requests / self.asked_s, 1),
            "server_grown_bytes": self.grown_bytes,
        }

    def show(self, console: Console) -> None:
        """Print the tables, and what is wrong."""
        faults = Table("fault", "times", title="injected")
        for kind, count in sorted(self.faults.items()):
            faults.add_row(kind, f"{count:,}")
        for kind, count in sorted(self.deaths.items()):
            faults.add_row(f"[dim]workers {kind}", f"[dim]{count:,}")
        outcomes = Table("requests", "", title="ended")
        for kind, count in sorted(self.findings.outcomes.items()):
            outcomes.add_row(kind, f"{count:,}")
        delivered = ", ".join(f"{n}: {count:,}" for n, count in sorted(self.findings.deliveries.items()))
        outcomes.add_row("[dim]deliveries", f"[dim]{delivered}")
        account = Table("account", "", title=f"seed {self.plan.seed}, {self.server}")
        for kind in (*_BARS, *sorted(set(self.findings.wrong) - set(_BARS))):
            count = self.findings.count(kind)
            account.add_row(kind, f"[{'red' if count else 'green'}]{count:,}")
        bar_s = f"at most {self.plan.lease_s + 1:g} s"
        account.add_row("worst recovery, alone", f"{_seconds(self.recovery_s['alone'])} ({bar_s})")
        for company in ("with other workers", "with the server"):
            account.add_row(f"  {company}", _seconds(self.recovery_s[company]))
        account.add_row("server's memory", f"{self.grown_bytes / 1024:+,.0f} KiB")
        account.add_row("wall time", f"{self.asked_s:,.1f} s")
        account.add_row("requests", f"{self.plan.requests:,}, {self.plan.requests / self.asked_s:.1f}/s")
        console.print(Group(faults, outcomes, account))
        for kind, found in self.findings.wrong.items():
            for what in found[:_SHOWN]:
                console.print(f"[red]{kind}[/]: {what}", markup=True, highlight=False)
            if len(found) > _SHOWN:
                console.print(f"[red]{kind}[/]: and {len(found) - _SHOWN:,} more")


def _worst(seconds: Sequence[float]) -> float | None:
    return round(max(seconds), 3) if seconds else None


def _seconds(seconds: Sequence[float]) -> str:
    return f"{max(seconds):.2f} s of {len(seconds):,}" if seconds else "none seen"
