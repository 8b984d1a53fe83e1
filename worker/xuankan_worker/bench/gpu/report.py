"""The benchmark's document as Markdown and as tables for a terminal. Pure but for printing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

Document = Mapping[str, Any]
_LATENCIES = (
    ("latency_alone", "alone"),
    ("latency_at_50_percent", "50 % load"),
    ("latency_at_80_percent", "80 % load"),
    ("latency_beside_backlog", "20 % load, backlog takes the rest"),
)
_THROUGHPUT_NOTE = """\
Medians of repeated measurements, lowest and highest in brackets. Tokens are real ones: padding counts neither
for tokens/s nor for the share of the matrix peak."""
_LATENCY_NOTE = """\
The worker's count from the text at the producer to the ranking at the producer, under load from the intended
time of arrival (Poisson, drawn beforehand). CrossEncoder's are of `predict` alone."""
_PAIRS_NOTE = """\
Each manuscript is paired with the first stage's best journals. Shorter ones are left out so that a pair of
the model `base` has about 360 tokens; with them it would have about 305."""
_UNKNOWN = "–"


def markdown(document: Document) -> str:
    """Everything that a reader wants to know, as one page."""
    about = document["about"]
    machine = about["machine"]
    lines = [
        f"# Xuankan on {machine['gpu'] or 'an unknown GPU'}",
        "",
        *_commands(document),
        "",
        "## Goals",
        "",
        *_rows(("figure", "goal", "measured", "reached"), goal_rows(document)),
        "",
        "Of the model `base`, a cross-encoder of BERT-base's size, where no other is named.",
        "",
        "## Throughput",
        "",
        *_rows(_THROUGHPUT, throughput_rows(document)),
        "",
        _THROUGHPUT_NOTE,
        "",
        "## One manuscript × 64 journals, milliseconds",
        "",
        *_rows(("model and system", "when", "p50", "p95", "p99", "number"), latency_rows(document)),
        "",
        _LATENCY_NOTE,
        "",
        "## Conditions",
        "",
        *(f"- {line}" for line in _conditions(document)),
        "",
        _PAIRS_NOTE,
        "",
    ]
    if failures := _failures(document):
        lines += ["## What failed", "", *(f"- {line}" for line in failures), ""]
    return "\n".join(lines)


def show(document: Document, console: Console) -> None:
    """Print the tables."""
    tables: tuple[tuple[str, Sequence[str], list[tuple[str, ...]]], ...] = (
        ("Throughput", _THROUGHPUT, throughput_rows(document)),
        (
            "One manuscript × 64 journals, ms",
            ("model and system", "when", "p50", "p95", "p99", "number"),
            latency_rows(document),
        ),
        ("Goals", ("figure", "goal", "measured", "reached"), goal_rows(document)),
    )
    for title, heads, rows in tables:
        table = Table(title=title)
        for place, head in enumerate(heads):
            table.add_column(head, justify="left" if place == 0 else "right", overflow="fold")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for line in _failures(document):
        console.print(f"failed: {line}", markup=False)


_THROUGHPUT = (
    "model and system", "pairs/s", "tokens/s", "of matrix peak", "GPU busy", "padding", "GPU memory",
)  # fmt: skip


def throughput_rows(document: Document) -> list[tuple[str, ...]]:
    """A row for each system."""
    rows: list[tuple[str, ...]] = []
    for key, result in _systems(document):
        spread = result.get("pairs_per_s_spread")
        rate = _number(result["pairs_per_s"], "{:,.0f}")
        if spread:
            rate += f" ({spread['min']:,.0f}–{spread['max']:,.0f})"
        memory = result.get("gpu_memory_process_bytes") or result.get("gpu_memory_bytes")
        rows.append(
            (
                f"{key.partition('/')[0]}: {result['title']}",
                rate,
                _number(result.get("tokens_per_s"), "{:,.0f}"),
                _number(result.get("share_of_matrix_peak"), "{:.1%}"),
                _number(result.get("gpu_busy_share"), "{:.1%}"),
                _number(result.get("padding_share"), "{:.1%}"),
                _number(memory and memory / 2**20, "{:,.0f} MiB"),
            )
        )
    return rows


def latency_rows(document: Document) -> list[tuple[str, ...]]:
    """A row for each measured latency."""
    return [
        (
            f"{key.partition('/')[0]}: {result['title']}",
            when,
            *(f"{result[name][f'p{level}_ms']:.1f}" for level in (50, 95, 99)),
            str(result[name]["count"]),
        )
        for key, result in _systems(document)
        for name, when in _LATENCIES
        if result.get(name)
    ]


def goal_rows(document: Document) -> list[tuple[str, ...]]:
    """A row for each goal."""
    words = {True: "yes", False: "no", None: _UNKNOWN}
    return [
        (goal["figure"], goal["goal"], goal["shown"], words[goal["reached"]])
        for goal in document["about"]["goals"]
    ]


def _commands(document: Document) -> list[str]:
    """Each command, with what it measured."""
    agreement = {f"{name}/agreement": found for name, found in document["about"]["agreement"].items()}
    keys: dict[tuple[str, str], list[str]] = {}
    for key, result in [*_systems(document), *agreement.items()]:
        if "command" in result:
            keys.setdefault((result["measured"], result["command"]), []).append(key)
    lines: list[str] = []
    for (measured, command), measured_keys in sorted(keys.items()):
        lines += [f"{measured}, {', '.join(measured_keys)}:", "", f"    {command}", ""]
    return lines[:-1]


def _conditions(document: Document) -> list[str]:
    about = document["about"]
    machine = about["machine"]
    sample = about["manuscripts"]
    peak = _number(about["matrix_peak_tflops"], "{:,.0f} TFLOP/s")
    lines = [
        f"GPU: {machine['gpu']}, compute capability {machine['compute_capability']}",
        f"Driver {machine['driver']}, CUDA {machine['cuda_driver']}",
        f"Matrix peak: {peak}, 8192³ products in FP16 of random numbers through PyTorch",
        f"Manuscripts: papers of the split {sample['split']} with at least {sample['least_tokens']} tokens",
        f"Host: {machine['processor']}, {machine['cores']} cores, Python {machine['python']}",
        ", ".join(f"{name} {number}" for name, number in machine["versions"].items()),
    ]
    for name, work in about["models"].items():
        lines.append(
            f"Model {name}: {work['pairs']:,} pairs of {work['shortest']} to {work['longest']} tokens, "
            f"{work['mean_tokens']:.0f} on average, {work['mean_flops'] / 1e9:.1f} GFLOP each"
        )
    for key, result in _systems(document):
        if variant := result.get("variant"):
            lines.append(f"{key}: {variant}")
        if result.get("worker_cpu_cores") is not None:
            lines.append(
                f"{key}: {result['workers']} worker processes used {result['worker_cpu_cores']:.2f} cores, "
                f"{result['worker_cpu_cores_in_engine']:.2f} of them in the engine; {result['producers']} "
                f"producer processes used {result['producers_cpu_cores']:.2f}; a batch had "
                f"{result['rows_per_batch']:.1f} rows"
            )
        if result.get("ready_s") is not None:
            without = result.get("ready_without_cache_s")
            lines.append(
                f"{key}: ready after {result['ready_s']:.1f} s"
                + ("" if without is None else f", {without:.1f} s while no kernel is cached")
            )
    for name, found in about["agreement"].items():
        if found.get("kendall_tau") is not None:
            lines.append(
                f"Model {name}: Kendall τ-b against PyTorch FP32, mean of {found['rankings']} rankings of "
                f"{found['candidates']} journals: {found['kendall_tau']:.4f} fused, "
                f"{found['kendall_tau_model_score_alone']:.4f} for the model's score alone"
            )
    return lines


def _failures(document: Document) -> list[str]:
    found = [*_systems(document), *document["about"]["agreement"].items()]
    return [f"{key}: {result['error']}" for key, result in found if result.get("error")]


def _systems(document: Document) -> list[tuple[str, Mapping[str, Any]]]:
    return [(key, value) for key, value in document.items() if key != "about"]


def _rows(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _number(value: float | None, form: str) -> str:
    return _UNKNOWN if value is None else form.format(value)
