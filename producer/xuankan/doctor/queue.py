"""The queue: who serves it, and whether they and this installation can understand each other."""

from __future__ import annotations

from typing import Final

from xuankan.doctor.findings import Finding, Role
from xuankan.doctor.package import Package
from xuankan.protocol.queue_state import QueueState

AREA: Final = "queue"


def judge(state: QueueState, package: Package, namespace: str, role: Role | None) -> list[Finding]:
    """Findings about the queue of a namespace."""
    found = [_workers(state, namespace, role), *_fit(state, package)]
    if state.dead:
        letters = "1 dead letter" if state.dead == 1 else f"{state.dead:,} dead letters"
        remedy = "see xuankan dead list for the reasons"
        found.append(Finding(AREA, "dead letters", "warning", letters, remedy))
    elif state.dead is not None:
        found.append(Finding(AREA, "dead letters", "ok", "none"))
    return found


def _workers(state: QueueState, namespace: str, role: Role | None) -> Finding:
    known = [lane.length for lane in state.lanes.values() if lane.length is not None]
    length = f"{sum(known):,} requests queued or running" if known else ""
    if state.workers is None:
        fact = "this user may not see the workers" + (f"; {length}" if length else "")
        return Finding(AREA, "workers", "unknown", fact, "run xuankan doctor as the operator")
    if state.workers:
        states = [worker.state for worker in state.workers]
        counted = ", ".join(f"{states.count(one)} {one}" for one in sorted(set(states)))
        return Finding(AREA, "workers", "ok", f"{counted}; {length}" if length else counted)
    if role == "worker":  # it is about to start the first
        return Finding(AREA, "workers", "ok", "none is running yet" + (f"; {length}" if length else ""))
    fact = f"none is running in namespace {namespace!r}" + (f"; {length}" if length else "")
    return Finding(
        AREA,
        "workers",
        "warning",
        fact,
        "start one with this server and namespace: xuankan worker run",
    )


def _fit(state: QueueState, package: Package) -> list[Finding]:
    """Whether the workers and this installation name journals and tokens alike."""
    ours = {
        "template": package.template and package.template.fingerprint,
        "catalogue": package.catalogue and package.catalogue.version,
    }
    remedies = {
        "template": "use the same version of xuankan and the same model release on both sides",
        "catalogue": "give producers and workers the same --catalogue",
    }
    found: list[Finding] = []
    for what, own in ours.items():
        # One that does not say what it has is of another version, and is not accused.
        others = {
            worker.name: value
            for worker in state.serving
            if (value := worker.template if what == "template" else worker.catalogue) and value != own
        }
        if own is not None and others:
            named = ", ".join(f"{name} has {value}" for name, value in sorted(others.items())[:3])
            word = "tokenizer and template" if what == "template" else what
            fact = f"here the {word} is {own}, but {named}: every request ends as invalid"
            found.append(Finding(AREA, f"same {what}", "failure", fact, remedies[what]))
    releases = sorted({worker.release for worker in state.serving if worker.release})
    if len(releases) > 1:
        fact = f"workers serve {', '.join(releases)}: a ranking depends on which of them makes it"
        found.append(Finding(AREA, "same release", "warning", fact, "finish the rollout: xuankan top"))
    if state.workers and not found:
        found.append(Finding(AREA, "agreement", "ok", "workers and this installation understand each other"))
    return found
