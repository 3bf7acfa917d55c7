"""The figures of a board: mean ranks with their intervals, and the ASR of each defense under each attack."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from bench.experiment.metrics import RANKING
from bench.report.figures import style
from bench.report.figures.figures import Drawing, foot
from bench.report.figures.labels import wrapped
from bench.report.ranking.leaderboard import Leaderboard, Standing
from bench.report.tables import cells as tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINE = 0.165  # inches a line of a name
WIDTH = 34  # characters of a line
MOST_CELLS = 400  # beyond, numbers in the cells cannot be read


def rankings(leaderboard: Leaderboard, *, suffix: str = "") -> list[Drawing]:
    """Return the figures that a board allows: those with two defenses or more.

    Ranks are drawn where each defense has one size of the clean sample: sizes of one defense are not rivals.

    Args:
        leaderboard: of the board.
        suffix: of the files' names, where there are several boards.
    """
    standings = leaderboard.standings()
    ranked = [standing for standing in standings if standing.complete and standing.rank is not None]
    found = []
    if 1 < len(ranked) == len({standing.line.defense for standing in ranked}):
        found.append(Drawing(f"ranks{suffix}", ranks(leaderboard, ranked)))
    if len(standings) > 1 and leaderboard.places:
        found.append(Drawing(f"heat{suffix}", heat(leaderboard, standings)))
    return found


def _tall(names: Sequence[str]) -> float:
    """Return the inches that names of one or more lines take below each other at equal distances."""
    lines = [name.count("\n") + 1 for name in names]
    return LINE * len(names) * max([1.0, *((above + below) / 2 for above, below in pairwise(lines))])


def ranks(leaderboard: Leaderboard, ranked: Sequence[Standing]) -> Figure:
    """Draw mean ranks with 95 % intervals; the band is Nemenyi's critical difference from the best."""
    from matplotlib.figure import Figure

    labels = tables.labels(leaderboard.results)
    names = [wrapped(labels[standing.line], WIDTH) for standing in ranked]
    with style.applied():
        figure = Figure(figsize=(0.72 * style.PAGE, _tall(names) + 0.95), layout="constrained")
        axes = figure.subplots()
        at = np.arange(len(ranked))
        estimates = [standing.rank for standing in ranked if standing.rank is not None]
        width = leaderboard.critical_difference(ranked)
        told = ""
        if width is not None:
            axes.axvspan(
                estimates[0].value, estimates[0].value + width, color=style.COLOURS[2], alpha=0.15, linewidth=0
            )
            told = f"\nBand: critical difference {width:.2f} from the best (Nemenyi)."
        axes.hlines(at, [e.low for e in estimates], [e.high for e in estimates], color=style.COLOURS[0], linewidth=1.3)
        axes.plot([e.value for e in estimates], at, "o", color=style.COLOURS[0], markersize=4.2)
        axes.set_yticks(at, names)
        axes.set_ylim(len(ranked) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("mean rank, lower is better")
        places = f"{len(leaderboard.places)} place{'s' * (len(leaderboard.places) > 1)}"
        foot(figure, f"{places}; bars: 95 % intervals over tasks, attacks, seeds and examples.{told}")
    return figure


def heat(leaderboard: Leaderboard, standings: Sequence[Standing]) -> Figure:
    """Draw the ASR that each defense leaves each attack, mean over tasks; cells without a number stay empty."""
    from matplotlib.figure import Figure

    labels = tables.labels(leaderboard.results)
    attacks = list(dict.fromkeys(place.attack for place in leaderboard.places))
    grid = np.full((len(standings), len(attacks)), np.nan)
    for i, standing in enumerate(standings):
        for j, attack in enumerate(attacks):
            there = [place for place in standing.places if place.attack == attack]
            values = [leaderboard.means[place, standing.line][RANKING.name] for place in there]
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
        bar.set_label(f"{RANKING.title} ({RANKING.unit})")
        bar.outline.set_visible(False)
        foot(figure, "Mean over tasks; lower is better.")
    return figure
