"""The interactive charts as Vega-Lite, made with altair; the page fills in the data, filtered as its table is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.experiment.metrics import ACCURACY, BACKDOOR, COST, RANKING, Metric
from bench.report.figures.style import COLOURS

ROWS, EXTRA = "rows", "extra"  # the data sets that the page hands in
TRADEOFF, RANKS, HEAT, CURVES = "tradeoff", "ranks", "heat", "curves"
AREAS, AREA_HEAT = "areas", "area-heat"  # of detectors


def specifications() -> dict[str, dict[str, Any]]:
    """Return every chart of the site by its name, without data."""
    made: dict[str, Callable[[], Any]] = {
        TRADEOFF: tradeoff,
        RANKS: ranks,
        HEAT: heat,
        AREAS: areas,
        AREA_HEAT: area_heat,
        "curve-flip": lambda: curve(BACKDOOR),
        "curve-acc": lambda: curve(ACCURACY),
    }
    charts = {}
    for name, make in made.items():
        spec = make().to_dict()
        for data in (spec.get("datasets", {}), spec.get("config", {}).get("view", {})):
            data.clear()  # sizes and data are the page's
        charts[name] = spec
    return charts


def _fit() -> Any:
    """Fit the width to the page; the height is the chart's."""
    import altair as alt

    return alt.AutoSizeParams(type="fit-x", contains="padding")


def _only(side: str) -> Any:
    """Return the labels of the points whose text touches them with this side."""
    import altair as alt

    return alt.when(f"datum.side == '{side}'").then(alt.Text("label:N")).otherwise(alt.value(""))


def _tip(metric: Metric) -> Any:
    """Return the line of a tooltip that states a metric."""
    import altair as alt

    return alt.Tooltip(f"{metric.name}:Q", title=metric.title, format=f".{metric.decimals}f")


def tradeoff() -> Any:
    """Return the flip rate against the ACC that a defense costs; lower left is better."""
    import altair as alt

    pick = alt.selection_point(fields=["group"], bind="legend", name="pick")
    shown = alt.when(pick).then(alt.value(1)).otherwise(alt.value(0.12))
    x = alt.X(f"{COST.name}:Q", title=COST.axis, scale=alt.Scale(zero=True, nice=True))
    ticks = alt.Axis(values=list(range(0, 101, 20)))
    y = alt.Y(f"{BACKDOOR.name}:Q", title=BACKDOOR.axis, scale=alt.Scale(domain=[0, 104], nice=False), axis=ticks)
    tips = [
        alt.Tooltip("name:N", title="defense"),
        _tip(BACKDOOR),
        _tip(COST),
        _tip(RANKING),
        alt.Tooltip("rank:Q", title="rank", format=".0f"),
        alt.Tooltip("group:N", title="needs"),
    ]
    points = (
        alt.Chart(alt.NamedData(ROWS))
        .mark_point(filled=True, size=90)
        .encode(
            x=x,
            y=y,
            opacity=shown,
            tooltip=tips,
            color=alt.Color("group:N", title="needs", scale=alt.Scale(range=list(COLOURS))),
            shape=alt.Shape("group:N", title="needs"),
        )
        .add_params(pick)
    )
    references = (
        alt.Chart(alt.NamedData(EXTRA))
        .mark_point(shape="cross", size=80, filled=True, color="#808080")
        .encode(x=x, y=y, tooltip=[alt.Tooltip("name:N", title="reference"), *tips[1:3]])
    )
    names = [
        alt.Chart(alt.NamedData(data))
        .mark_text(align=side, dx=8 if side == "left" else -8, fontSize=11, fontStyle=font, clip=True)
        .encode(x=x, y=y, text=_only(side), opacity=opacity)
        for data, font, opacity in ((ROWS, "normal", shown), (EXTRA, "italic", alt.value(1)))
        for side in ("left", "right")
    ]
    return alt.layer(references, points, *names).properties(width="container", height=380, autosize=_fit())


def ranks() -> Any:
    """Return the measure that ranks with its intervals, best first."""
    import altair as alt

    return _intervals(
        RANKING.name,
        f"{RANKING.heading} ({RANKING.unit}) ↑",
        [_tip(RANKING), alt.Tooltip("rank:Q", title="rank", format=".0f")],
    )


def areas() -> Any:
    """Return the AUROC of detectors with its intervals, highest first."""
    import altair as alt

    return _intervals("area", "AUROC (%) ↑", [alt.Tooltip("area:Q", title="AUROC", format=".1f")])


def _intervals(field: str, title: str, tips: list[Any]) -> Any:
    """Return a number of every line with its interval."""
    import altair as alt

    rows = alt.Chart(alt.NamedData(ROWS))
    y = alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=220))
    x = alt.X(
        "low:Q", title=title, scale=alt.Scale(zero=False, nice=True), axis=alt.Axis(tickCount=6, labelFlush=False)
    )
    intervals = rows.mark_rule(strokeWidth=2, color=COLOURS[0]).encode(x=x, x2="high:Q", y=y)
    ends = [alt.Tooltip("low:Q", title="from", format=".1f"), alt.Tooltip("high:Q", title="to", format=".1f")]
    points = rows.mark_point(filled=True, size=70, color=COLOURS[0], opacity=1).encode(
        x=alt.X(f"{field}:Q"), y=y, tooltip=[alt.Tooltip("name:N", title="name"), *tips, *ends]
    )
    return (intervals + points).properties(width="container", height=alt.Step(22), autosize=_fit())


def heat() -> Any:
    """Return the flip rate that each defense leaves each attack."""
    import altair as alt

    title = f"{BACKDOOR.title} ({BACKDOOR.unit})"
    return _grid(BACKDOOR.name, title, [_tip(BACKDOOR), _tip(COST), alt.Tooltip("places:Q", title="tasks")])


def area_heat() -> Any:
    """Return the AUROC of each detector against each attack."""
    import altair as alt

    return _grid("area", "AUROC (%)", [alt.Tooltip("area:Q", title="AUROC", format=".1f")])


def _grid(field: str, title: str, tips: list[Any]) -> Any:
    """Return a number of every line for every attack."""
    import altair as alt

    base = alt.Chart(alt.NamedData(ROWS)).encode(
        x=alt.X("attack:N", sort=None, title=None, axis=alt.Axis(orient="top", labelAngle=-40, labelLimit=160)),
        y=alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=220)),
    )
    names = [alt.Tooltip("name:N", title="name"), alt.Tooltip("attack:N", title="attack")]
    colour = alt.Color(f"{field}:Q", title=title, scale=alt.Scale(domain=[0, 100], scheme="oranges"))
    cells = base.mark_rect().encode(color=colour, tooltip=[*names, *tips])
    texts = base.mark_text(fontSize=11).encode(
        text=alt.Text(f"{field}:Q", format=".0f"),
        color=alt.when(f"datum.{field} > 70").then(alt.value("#ffffff")).otherwise(alt.value("#1a1a1a")),
    )
    return (cells + texts).properties(width="container", height=alt.Step(22), autosize=_fit())


def curve(metric: Metric) -> Any:
    """Return a metric over the reserve ratio or the number of clean examples, a line for each defense."""
    import altair as alt

    pick = alt.selection_point(fields=["curve"], bind="legend", name="pick")
    return (
        alt.Chart(alt.NamedData(ROWS))
        .mark_line(point=alt.OverlayMarkDef(size=50, filled=True))
        .encode(
            x=alt.X("x:Q", title=None),
            y=alt.Y(f"{metric.name}:Q", title=metric.axis, scale=alt.Scale(zero=metric is BACKDOOR, nice=True)),
            color=alt.Color("curve:N", title="defense", scale=alt.Scale(range=list(COLOURS))),
            shape=alt.Shape("curve:N", legend=None),
            opacity=alt.when(pick).then(alt.value(1)).otherwise(alt.value(0.12)),
            tooltip=[
                alt.Tooltip("curve:N", title="defense"),
                alt.Tooltip("x:Q", title="at"),
                _tip(metric),
                alt.Tooltip("places:Q", title="places"),
            ],
        )
        .add_params(pick)
        .properties(width="container", height=260, autosize=_fit())
    )
