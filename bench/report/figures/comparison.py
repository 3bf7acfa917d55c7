"""The figure of two defenses: their difference in each metric, over all attacks and against each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.report.figures import style
from bench.report.figures.figures import foot
from bench.report.figures.labels import wrapped
from bench.report.ranking.comparison import METRICS, Comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINE = 0.24  # inches a row
WIDTH = 30  # characters of a line of a name


def differences(comparison: Comparison) -> Figure:
    """Draw a panel for each metric and a row for each attack; beside the line, one of the two is better."""
    from matplotlib.figure import Figure

    names = [wrapped(name, WIDTH) for name in comparison.attacks]
    lines = sum(name.count("\n") + 1 for name in names)
    with style.applied():
        figure = Figure(figsize=(style.PAGE, LINE * lines + 1.3), layout="constrained")
        panels = figure.subplots(1, len(METRICS), sharey=True, squeeze=False)[0]
        for axes, metric in zip(panels, METRICS, strict=True):
            axes.axvline(0, color=style.GREY, linewidth=0.8, zorder=0)
            for at, attack in enumerate(comparison.attacks):
                (one,) = (d for d in comparison.differences if d.attack == attack and d.metric is metric)
                if (estimate := one.measured.estimate) is None:
                    continue
                colour = {"first": style.COLOURS[2], "second": style.COLOURS[1]}.get(one.verdict, style.GREY)
                axes.hlines(at, estimate.low, estimate.high, color=colour, linewidth=1.3)
                axes.plot(estimate.value, at, "o" if one.verdict else "s", color=colour, markersize=4.2)
            axes.set_title(f"{metric.heading}\n({metric.direction})")
            axes.set_xlabel("points")
            axes.margins(x=0.08)
            axes.grid(axis="y", visible=False)
        panels[0].set_yticks(range(len(names)), names)
        panels[0].set_ylim(len(names) - 0.5, -0.5)
        figure.suptitle(wrapped(f"{comparison.first} less {comparison.second}", 90), fontsize=style.TEXT + 1)
        foot(figure, "Bars: 95 % intervals. Green: the first is better; orange: the second; grey: not told apart.")
    return figure
