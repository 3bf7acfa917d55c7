"""The figures of a board: DER with intervals, and the flip rate that each defense leaves each attack."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from bench.experiment.metrics import BACKDOOR, RANKING
from bench.report.figures import style
from bench.report.figures.figures import Drawing, foot
from bench.report.figures.labels import wrapped
from bench.report.ranking.leaderboard import Leaderboard, Standing
from bench.report.tables import cells as tables
from bench.store.words import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINE = 0.165  # inches a line of a name
WIDTH = 34  # characters of a line
MOST_CELLS = 400  # beyond, numbers in the cells cannot be read


def rankings(leaderboard: Leaderboard, *, suffix: str = "") -> list[Drawing]:
    """Return the figures that a board allows: those with two defenses or more.

    Args:
        leaderboard: of the board.
        suffix: of the files' names, where there are several boards.
    """
    standings = leaderboard.standings()
    ranked = [standing for standing in standings if standing.complete and standing.rank is not None]
    drawings = []
    if len(ranked) > 1:
        drawings.append(Drawing(f"ranks{suffix}", ranks(leaderboard, ranked)))
    if len(standings) > 1 and leaderboard.places:
        drawings.append(Drawing(f"heat{suffix}", heat(leaderboard, standings)))
    return drawings


def _tall(names: Sequence[str]) -> float:
    """Return the inches that names of one or more lines take below each other at equal distances."""
    lines = [name.count("\n") + 1 for name in names]
    return LINE * len(names) * max([1.0, *((above + below) / 2 for above, below in pairwise(lines))])


def ranks(leaderboard: Leaderboard, ranked: Sequence[Standing]) -> Figure:
    """Draw the measure that ranks with 95 % intervals, best first; the line is what doing nothing gets."""
    from matplotlib.figure import Figure

    labels = tables.labels(leaderboard.results)
    names = [wrapped(labels[standing.line], WIDTH) for standing in ranked]
    with style.applied():
        figure = Figure(figsize=(0.72 * style.PAGE, _tall(names) + 0.95), layout="constrained")
        axes = figure.subplots()
        at = np.arange(len(ranked))
        estimates = [standing.rating for standing in ranked if standing.rating is not None]
        axes.axvline(50, color=style.COLOURS[2], linewidth=0.8, linestyle="--", zorder=0)
        axes.hlines(at, [e.low for e in estimates], [e.high for e in estimates], color=style.COLOURS[0], linewidth=1.3)
        axes.plot([e.value for e in estimates], at, "o", color=style.COLOURS[0], markersize=4.2)
        axes.set_yticks(at, names)
        axes.set_ylim(len(ranked) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(RANKING.axis)
        places = counted(len(leaderboard.places), "place")
        foot(figure, f"{places}; bars: 95 % intervals over trainings and test examples. Dashed: doing nothing.")
    return figure


def heat(leaderboard: Leaderboard, standings: Sequence[Standing]) -> Figure:
    """Draw the flip rate that each defense leaves each attack, mean over tasks; empty without a number."""
    from matplotlib.figure import Figure

    labels = tables.labels(leaderboard.results)
    attacks = list(dict.fromkeys(place.attack for place in leaderboard.places))
    grid = np.full((len(standings), len(attacks)), np.nan)
    for i, standing in enumerate(standings):
        for j, attack in enumerate(attacks):
            places = [place for place in standing.places if place.attack == attack]
            values = [leaderboard.means[place, standing.line][BACKDOOR.name] for place in places]
            grid[i, j] = np.mean(values) if values else np.nan
    names = [wrapped(labels[standing.line], WIDTH) for standing in standings]
    with style.applied():
        width = min(style.PAGE, 2.6 + 0.5 * len(attacks))
        figure = Figure(figsize=(width, _tall(names) + 1.3), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(grid, vmin=0, vmax=100, cmap="Oranges", aspect="auto", interpolation="none")
        axes.set_yticks(range(len(standings)), names)
        axes.set_xticks(
            range(len(attacks)), [wrapped(name) for name in attacks], rotation=40, ha="left", rotation_mode="anchor"
        )
        axes.xaxis.tick_top()
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        for i, j in np.argwhere(~np.isnan(grid)) if grid.size <= MOST_CELLS else ():
            colour = "white" if grid[i, j] > 60 else style.INK
            axes.text(j, i, f"{grid[i, j]:.0f}", ha="center", va="center", fontsize=style.SMALL - 0.5, color=colour)
        bar = figure.colorbar(image, cax=axes.inset_axes((1.02, 0, 0.02 + 0.1 / len(attacks), 1)))
        bar.set_label(f"{BACKDOOR.title} ({BACKDOOR.unit})")
        bar.outline.set_visible(False)
        foot(figure, "Mean over tasks; lower is better.")
    return figure
