"""The figures of a suite: trade-off, reserve ratio and clean-data size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.experiment.metrics import ACCURACY, BACKDOOR, Metric
from bench.experiment.roles import BASELINES, VICTIM, Baseline
from bench.report.figures import style
from bench.report.figures.labels import LabelColumn, line_count, settle, wrapped
from bench.report.rows import curves
from bench.store import outputs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame, Series

METRICS = (ACCURACY, BACKDOOR)
TITLE = 44  # characters of a line of the title of a panel


@dataclass(frozen=True)
class Drawing:
    """A figure with the name of its files."""

    name: str
    figure: Figure


@dataclass(frozen=True)
class Panel:
    """The cells of one place (model, task, attack) that a figure shows.

    Attributes:
        title: task and attack.
        cells: finished cells of the seeds that count.
        grey: the attack did not implant.
    """

    title: str
    cells: DataFrame
    grey: bool

    def baseline(self, who: Baseline, metric: Metric) -> float:
        """Return the mean of the clean model or of the undefended victim; NaN where it is not known."""
        name = f"{who.column}_{metric.name}"
        return float(self.cells.groupby("seed")[name].first().mean())


def figures_of(table: DataFrame) -> list[Drawing]:
    """Return every figure that the cells of a suite allow.

    Args:
        table: from :func:`bench.report.frame`.
    """
    drawings = []
    drawn = {
        "mixing-ratio": (mixing_ratio, _by_budget(curves.ratio_points(table))),
        "clean-size": (clean_size, curves.size_points(table)),
        "persistence": (persistence, _by_budget(curves.step_points(table))),
    }
    rest = table.drop(index=[index for _, points in drawn.values() for index in points.index])
    rest = rest[rest["defense"] != VICTIM.spelling]
    for name, panels in _groups("tradeoff", rest, most=6) if rest["defense"].nunique() > 1 else ():
        drawings.append(Drawing(name, tradeoff(panels)))
    for kind, (draw, points) in drawn.items():
        drawings += [Drawing(name, draw(panels)) for name, panels in _groups(kind, points, most=3)]
    return drawings


def _by_budget(points: DataFrame) -> DataFrame:
    """Return the points with a curve for each budget of labels, where there are several."""
    if points["clean_size"].nunique() < 2:
        return points
    return points.assign(curve=points["curve"] + points["clean_size"].map(" [n={}]".format))


def write(drawings: Sequence[Drawing], folder: Path) -> list[Path]:
    """Write PNG and PDF of every figure; returns their paths."""
    outputs.make_folder(folder)
    return [path for drawing in drawings for path in style.save(drawing.figure, folder / drawing.name)]


def _groups(name: str, cells: DataFrame, *, most: int) -> Iterator[tuple[str, list[Panel]]]:
    """Yield a figure's panels: all in one figure, or one for each task and model where they are too many."""
    panels = panels_of(cells)
    if len(panels) <= most:
        if panels:
            yield name, panels
        return
    for model in dict.fromkeys(cells["model"]):
        for task in dict.fromkeys(cells["task"]):
            chosen = panels_of(cells[(cells["model"] == model) & (cells["task"] == task)])
            parts = [chosen[start : start + most] for start in range(0, len(chosen), most)]
            for number, part in enumerate(parts, start=1):
                where = "-".join(_plain(text) for text in ([task, model] if cells["model"].nunique() > 1 else [task]))
                yield f"{name}-{where}" + (f"-{number}" if len(parts) > 1 else ""), part


def _plain(text: str) -> str:
    return "".join(character if character.isalnum() else "-" for character in text)


def panels_of(cells: DataFrame) -> list[Panel]:
    """Return a panel for each place with a flip rate; seeds without an implanted attack only where none did."""
    cells = cells[(cells["status"] == "done") & cells[BACKDOOR.name].notna()]
    keys = ["model", "task", "attack"]
    if "attack.target" in cells and cells["attack.target"].nunique() > 1:
        keys.append("attack.target")
    panels = []
    for place, group in cells.groupby(keys, sort=False, dropna=False):
        passed = group["implanted"].fillna(False).astype(bool)
        model = f", {place[0]}" if cells["model"].nunique() > 1 else ""
        target = f" → {place[3]}" if len(place) > 3 else ""
        grey = not passed.any() and bool(group["implanted"].notna().any())
        title = f"{place[1]}{model}: {place[2]}{target}" + (" (did not implant)" if grey else "")
        panels.append(Panel(title, group[passed] if passed.any() else group, grey))
    return panels


def interval(values: Series[float]) -> tuple[float, float, float]:
    """Return mean, low and high: the 95 % t interval over seeds, cut at 0 and 100; two seeds span it themselves."""
    from scipy import stats

    data = np.asarray(values.dropna(), dtype=np.float64)
    mean = float(data.mean())
    if len(data) < 3:
        return mean, float(data.min()), float(data.max())
    half = float(stats.t.ppf(0.975, len(data) - 1) * data.std(ddof=1) / np.sqrt(len(data)))
    return mean, max(mean - half, 0.0), min(mean + half, 100.0)


def remark(panels: Sequence[Panel], what: str, mark: list[str]) -> str:
    """Return how many seeds each mark shows (cells alike in the columns ``mark``) and what its bars are."""
    counts = [seeds for panel in panels for seeds in panel.cells.groupby(mark)["seed"].nunique()]
    least, most = min(counts), max(counts)
    if most == 1:
        return "One seed."
    span = "95 % t intervals over seeds" if most > 2 else "both seeds"
    if most > 2 and 2 in counts:
        span += ", of two seeds both"
    return f"Means over {most if least == most else f'{least} to {most}'} seeds; {what}: {span}."


def _figure(rows: int, columns: int, width: float, height: float, **options: Any) -> tuple[Figure, list[list[Axes]]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, [list(row) for row in grid]


def foot(figure: Figure, text: str) -> None:
    """Write a small remark below a figure, at its left."""
    figure.supxlabel(text, fontsize=style.SMALL - 0.5, color=style.GREY, x=0.01, ha="left")


def tradeoff(panels: Sequence[Panel]) -> Figure:
    """Draw ACC against ASR, a panel each; clean model and undefended victim are lines. Lower right is better."""
    names = list(dict.fromkeys(_names(panel) for panel in panels))
    looks = style.looks(name for group in names for name in group)
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    lines = max(
        sum(line_count(name) for name in (*group, *(baseline.label for baseline in BASELINES))) for group in names
    )
    height = max(2.0, lines * style.SMALL * 1.35 / 72 + 0.45)
    with style.applied():
        figure, grid = _figure(rows, columns, style.PAGE if columns > 1 else 0.72 * style.PAGE, rows * height + 0.25)
        cells = [axes for row in grid for axes in row]
        labels = [_scatter(axes, panel, looks) for axes, panel in zip(cells, panels, strict=False)]
        _share_x(cells, panels)
        for axes in cells[len(panels) :]:
            axes.remove()
        for row in grid:
            row[0].set_ylabel(BACKDOOR.axis)
        for axes in cells[max(len(panels) - columns, 0) : len(panels)]:
            axes.set_xlabel(ACCURACY.axis)
        foot(figure, remark(panels, "bars", ["defense", "clean_size"]))
        settle(figure, labels)
    return figure


def _share_x(cells: Sequence[Axes], panels: Sequence[Panel]) -> None:
    """Give the panels of one task and model the same ACC axis."""
    wheres = [(panel.cells["model"].iloc[0], panel.cells["task"].iloc[0]) for panel in panels]
    for where in dict.fromkeys(wheres):
        members = [axes for axes, other in zip(cells, wheres, strict=False) if other == where]
        limits = [axes.get_xlim() for axes in members]
        for axes in members:
            axes.set_xlim(min(low for low, _ in limits), max(high for _, high in limits))


def _names(panel: Panel) -> tuple[str, ...]:
    sizes = panel.cells.loc[panel.cells["clean_size"] > 0, "clean_size"].nunique() > 1
    named = _sized(panel.cells) if sizes else panel.cells["defense"]
    return tuple(dict.fromkeys(named))


def _sized(cells: DataFrame) -> Series[str]:
    sizes = cells["clean_size"].map(lambda size: f" [n={size}]" if size else "")
    return cells["defense"].astype(str) + sizes


def _scatter(axes: Axes, panel: Panel, looks: dict[str, style.Look]) -> LabelColumn:
    labels = LabelColumn(axes)
    named = _sized(panel.cells) if panel.cells.loc[panel.cells["clean_size"] > 0, "clean_size"].nunique() > 1 else None
    for name, group in panel.cells.groupby(panel.cells["defense"] if named is None else named, sort=False):
        look = looks[str(name)].greyed() if panel.grey else looks[str(name)]
        (x, left, right), (y, low, high) = (interval(group[metric.name]) for metric in METRICS)
        bars: dict[str, Any] = {"xerr": [[x - left], [right - x]], "yerr": [[y - low], [high - y]]}
        axes.errorbar(x, y, **bars, fmt="none", ecolor=look.colour, elinewidth=0.6, alpha=0.45, zorder=2)
        axes.plot(x, y, **look.drawn(line=False), zorder=3)
        labels.add(x, y, str(name), **look.drawn(line=False))
    for who, dash in style.DASHES_OF.items():
        x, y = (panel.baseline(who, metric) for metric in METRICS)
        if np.isfinite(x) and np.isfinite(y):
            axes.axvline(x, color=style.INK, linestyle=dash, linewidth=0.6, zorder=1)
            axes.axhline(y, color=style.INK, linestyle=dash, linewidth=0.6, zorder=1)
            drawn: dict[str, Any] = {
                "marker": style.SIGNS[who],
                "color": style.INK,
                "markersize": 5,
                "linestyle": "None",
            }
            axes.plot(x, y, **drawn, zorder=4)
            labels.add(x, y, who.label, italic=True, **drawn)
    axes.set_ylim(-5, 105)
    axes.margins(x=0.08)
    _name(axes, panel)
    return labels


def _name(axes: Axes, panel: Panel) -> None:
    axes.set_title(wrapped(panel.title, TITLE), color=style.GREY if panel.grey else style.INK, loc="left")


def mixing_ratio(panels: Sequence[Panel]) -> Figure:
    """Draw ACC and ASR against the reserve ratio: 1 keeps the victim's weights, 0 takes the pre-trained ones."""

    def axis(axes: Axes) -> None:
        axes.set_xlabel("reserve ratio")
        axes.set_xlim(-0.02, 1.02)

    return _curves(panels, "ratio", axis)


def clean_size(panels: Sequence[Panel]) -> Figure:
    """Draw ACC and ASR against the number of clean examples, on a log axis."""
    return _curves(panels, "size", _counted(panels, "size", "clean examples"))


def persistence(panels: Sequence[Panel]) -> Figure:
    """Draw ACC and flip rate against the steps on clean labels, on a log axis: how long a backdoor lasts."""
    return _curves(panels, "steps", _counted(panels, "steps", "steps on clean labels"))


def _counted(panels: Sequence[Panel], x: str, label: str) -> Callable[[Axes], None]:
    """Return what makes an axis of counts: a logarithmic one with a tick at each of them."""
    counts = sorted({float(count) for panel in panels for count in panel.cells[x] if count > 0})

    def finish(axes: Axes) -> None:
        axes.set_xlabel(label)
        axes.set_xscale("log", base=2)
        axes.set_xticks(counts, [f"{count:g}" for count in counts])
        axes.minorticks_off()

    return finish


def _curves(panels: Sequence[Panel], x: str, finish: Callable[[Axes], None]) -> Figure:
    names = list(dict.fromkeys(str(name) for panel in panels for name in panel.cells["curve"]))
    looks = style.looks(names)
    count = len(panels)
    height = 2 * max(1.45, (len(names) + 2) * style.SMALL * 1.3 / 72 + 0.2) + 0.6
    with style.applied():
        figure, grid = _figure(
            2, count, style.PAGE if count > 1 else 0.66 * style.PAGE, height, sharex=True, sharey="row"
        )
        labels = []
        for metric, row in zip(METRICS, grid, strict=True):
            for axes, panel in zip(row, panels, strict=True):
                column = _lines(axes, panel, metric, x, looks, named=axes is row[-1])
                labels += [column] if column.labels else []
            row[0].set_ylabel(f"{metric.title} ({metric.unit})")
        for axes, panel in zip(grid[0], panels, strict=True):
            _name(axes, panel)
        grid[1][0].set_ylim(-4, 104)
        for axes in grid[1]:
            finish(axes)
        foot(figure, remark(panels, "bands", ["curve", x]))
        settle(figure, labels)
    return figure


def _lines(
    axes: Axes, panel: Panel, metric: Metric, x: str, looks: dict[str, style.Look], *, named: bool
) -> LabelColumn:
    labels = LabelColumn(axes)
    for name, group in panel.cells.groupby("curve", sort=False):
        look = looks[str(name)].greyed() if panel.grey else looks[str(name)]
        at = sorted({float(value) for value in group[x]})
        spans = np.array([interval(group.loc[group[x] == value, metric.name]) for value in at])
        axes.fill_between(at, spans[:, 1], spans[:, 2], color=look.colour, alpha=0.13, linewidth=0)
        axes.plot(at, spans[:, 0], **look.drawn(line=True), zorder=3)
        if named:
            labels.add(at[-1], float(spans[-1, 0]), str(name), **look.drawn(line=True))
    for who, dash in style.DASHES_OF.items():
        value = panel.baseline(who, metric)
        if np.isfinite(value):
            drawn = {"color": style.INK, "linestyle": dash, "linewidth": 0.7}
            axes.axhline(value, zorder=1, **drawn)
            if named:
                labels.add(float(panel.cells[x].max()), value, who.label, italic=True, **drawn)
    return labels
