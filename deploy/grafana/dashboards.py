"""Grafana dashboards as code: `python deploy/grafana/dashboards.py` writes dashboards/*.json beside it.

The JSON is committed, so that Grafana needs nothing but the files; a test keeps both the same, and every
query to metrics that exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from board_batches import batches
from board_bulk import bulk
from board_models import releases
from board_overview import overview
from board_queue import queue
from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models
from queries import Row

DIRECTORY = Path(__file__).parent / "dashboards"
_TAG = "xuankan"


def build(uid: str, title: str, about: str, sections: Iterator[Row]) -> str:
    """A dashboard's JSON."""
    board = (
        dashboard.Dashboard(f"Xuankan / {title}")
        .uid(f"xuankan-{uid}")
        .description(about)
        .tags([_TAG])
        .refresh("30s")
        .time("now-3h", "now")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("source").label("Prometheus").type("prometheus"))
        .link(
            dashboard.DashboardLink("Xuankan")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([_TAG])
            .as_dropdown(True)
            .keep_time(True)
        )
    )
    for name, panels in sections:
        board.with_row(dashboard.Row(name))
        for panel in panels:
            board.with_panel(panel)
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def every() -> dict[str, str]:
    """File name and content of each dashboard."""
    return {
        "overview.json": build(
            "overview", "Overview", "Whether everything is fine, and if not, where to look.", overview()
        ),
        "queue.json": build(
            "queue", "Queue and lanes", "What waits, for how long, and how it ends.", queue()
        ),
        "batches.json": build(
            "batches", "GPU and batches", "Whether the hardware is kept busy with useful work.", batches()
        ),
        "models.json": build(
            "models",
            "Models and quality",
            "What is served, and whether its answers look as they used to.",
            releases(),
        ),
        "bulk.json": build("bulk", "One bulk job", "Choose the job's time range.", bulk()),
    }


if __name__ == "__main__":
    DIRECTORY.mkdir(exist_ok=True)
    for name, text in every().items():
        (DIRECTORY / name).write_text(text, encoding="utf-8")
