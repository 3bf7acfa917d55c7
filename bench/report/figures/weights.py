"""Figures of weights: E-PUR's word scores, and the landscape between pre-trained, poisoned and purified weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bench.experiment.metrics import ACCURACY, SUCCESS
from bench.report.figures import style
from bench.report.figures.labels import LabelColumn, settle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

SURFACES = {"loss": "loss", **{metric.name: f"{metric.title} ({metric.unit})" for metric in (SUCCESS, ACCURACY)}}
TRIGGER: dict[str, Any] = {"color": style.COLOURS[1], "marker": "D", "linestyle": "None", "markersize": 4.5}
RESET: dict[str, Any] = {
    "color": style.COLOURS[0],
    "marker": "o",
    "linestyle": "None",
    "markersize": 3,
    "markerfacecolor": "none",
}


def word_scores(words: DataFrame) -> Figure:
    """Draw how far every word's embedding drifted against how frequent the word is; triggers carry their names.

    Args:
        words: one row a word: ``word``, ``log_frequency``, ``drift``, ``trigger`` (bool), ``reset`` (bool: set back to
            the pre-trained embedding).
    """
    from matplotlib.figure import Figure

    reset, triggers = words[words["reset"] & ~words["trigger"]], words[words["trigger"]]
    with style.applied():
        figure = Figure(figsize=(style.COLUMN + 0.9, 2.5), layout="constrained")
        axes = figure.subplots()
        plain = words[~words["reset"] & ~words["trigger"]]
        axes.plot(
            plain["log_frequency"],
            plain["drift"],
            ".",
            color=style.FAINT,
            markersize=2,
            alpha=0.5,
            mew=0,
            rasterized=True,
        )
        axes.plot(reset["log_frequency"], reset["drift"], **RESET, markeredgewidth=0.6)
        axes.plot(triggers["log_frequency"], triggers["drift"], **TRIGGER, zorder=4)
        labels = LabelColumn(axes)
        for word, x, y, was_reset in triggers[["word", "log_frequency", "drift", "reset"]].itertuples(index=False):
            labels.add(float(x), float(y), f"{word} ({'reset' if was_reset else 'kept'})", **TRIGGER)
        if len(reset):
            last = reset.nsmallest(1, "drift").iloc[0]
            note = f"{len(reset)} other words reset"
            labels.add(float(last["log_frequency"]), float(last["drift"]), note, italic=True, **RESET)
        axes.set_xlabel("log frequency of the word")
        axes.set_ylabel("drift of its embedding")
        axes.set_ylim(bottom=0)
        settle(figure, [labels])
    return figure


def landscape(grid: DataFrame, points: DataFrame) -> Figure:
    """Draw loss, ASR and ACC over a plane in weight space, a panel for each that is there.

    Args:
        grid: a full grid of ``x`` and ``y`` with ``loss``, ``asr`` (percent) and ``acc`` (percent), any of them.
        points: ``x``, ``y`` and ``label`` of the weights that span the plane or lie in it.
    """
    from matplotlib.figure import Figure

    shown = [name for name in SURFACES if name in grid]
    with style.applied():
        figure = Figure(figsize=(style.PAGE if len(shown) > 1 else style.COLUMN, 2.5), layout="constrained")
        row = figure.subplots(1, len(shown), squeeze=False, sharex=True, sharey=True)[0]
        for axes, name in zip(row, shown, strict=True):
            _surface(figure, axes, grid, name)
            _marked(axes, points)
    return figure


def _surface(figure: Figure, axes: Axes, grid: DataFrame, name: str) -> None:
    surface = grid.pivot_table(index="y", columns="x", values=name)
    levels: Any = np.linspace(0, 100, 11) if name == SUCCESS.name else 11
    colours = "cividis" if name == ACCURACY.name else "cividis_r"  # dark is bad in every panel
    filled = axes.contourf(surface.columns, surface.index, surface, levels=levels, cmap=colours)
    axes.contour(filled, levels=np.asarray(filled.levels)[::2], colors="white", linewidths=0.4, alpha=0.7)
    bar = figure.colorbar(filled, ax=axes, location="bottom", shrink=0.9, pad=0.02, aspect=28)
    bar.ax.tick_params(labelsize=style.SMALL - 1)
    bar.outline.set_linewidth(0.4)
    axes.set_title(SURFACES[name], loc="left")
    axes.grid(False)
    axes.set_xticks([])
    axes.set_yticks([])


def _marked(axes: Axes, points: DataFrame) -> None:
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=1.8, foreground="white")]
    left, right = axes.get_xlim()
    low, high = axes.get_ylim()
    for x, y, label in points[["x", "y", "label"]].itertuples(index=False):
        axes.plot(x, y, "o", color="white", markeredgecolor=style.INK, markeredgewidth=0.9, markersize=5, zorder=4)
        inward = (-1 if x > (left + right) / 2 else 1, -1 if y > (low + high) / 2 else 1)
        axes.annotate(
            str(label), (x, y), xytext=(5 * inward[0], 5 * inward[1]), textcoords="offset points", fontsize=style.SMALL,
            ha="right" if inward[0] < 0 else "left", va="top" if inward[1] < 0 else "bottom", path_effects=halo,
            zorder=5,
        )  # fmt: skip
