"""Panels as all dashboards of Xuankan have them: one look, one data source, a sentence on each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = models.DataSourceRef(type_val="prometheus", uid="${source}")
Query = tuple[str, str]
"""An expression, and the legend of its series."""
Panel = Builder[models.Panel]
WIDTHS = {"third": 8, "half": 12, "full": 24, "quarter": 6}
Width = Literal["third", "half", "full", "quarter"]


def over_time(
    title: str,
    about: str,
    queries: Sequence[Query],
    unit: str,
    *,
    width: Width = "half",
    stacked: bool = False,
    most: float | None = None,
    exemplars: bool = False,
) -> Panel:
    """Lines over time; with `exemplars` a point of each bucket links to its trace."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .height(8)
        .span(WIDTHS[width])
        .line_width(1)
        .fill_opacity(25 if stacked else 8)
        .show_points(common_models.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL))
    if most is not None:
        panel.max(most)
    for target in _targets(queries):
        panel.with_target(target.exemplar(exemplars))
    return panel


def figure(title: str, about: str, query: str, unit: str, *, bad_from: float | None = None) -> Panel:
    """One figure; from `bad_from` on it is red."""
    panel = (
        stat.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .unit(unit)
        .height(4)
        .span(WIDTHS["quarter"])
        .graph_mode(common_models.BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    steps = [models.Threshold(value=None, color="green")]
    if bad_from is not None:
        steps.append(models.Threshold(value=bad_from, color="red"))
    panel.thresholds(dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
    for target in _targets([(query, "")]):
        panel.with_target(target)
    return panel


def spread(title: str, about: str, query: str, unit: str, *, width: Width = "half") -> Panel:
    """A heat map over time of a histogram: `query` gives its buckets by `le`."""
    panel = (
        heatmap.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .height(8)
        .span(WIDTHS[width])
        .calculate(False)
        .y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(common_models.AxisPlacement.LEFT))
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heatmap_models.HeatmapColorMode.SCHEME)
            .scheme("Blues")
            .steps(64)
        )
    )
    for target in _targets([(query, "{{le}}")]):
        panel.with_target(target.format(PromQueryFormat.HEATMAP))
    return panel


def rows(title: str, about: str, query: str, *, width: Width = "full") -> Panel:
    """A table of the labels of some series, as they are now."""
    panel = table.Panel().title(title).description(about).datasource(SOURCE).height(7).span(WIDTHS[width])
    for target in _targets([(query, "")]):
        panel.with_target(target.format(PromQueryFormat.TABLE).instant())
    return panel


def _targets(queries: Sequence[Query]) -> list[prometheus.Dataquery]:
    return [
        prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(chr(ord("A") + place))
        for place, (expression, legend) in enumerate(queries)
    ]
