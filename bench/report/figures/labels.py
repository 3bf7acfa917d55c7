"""Direct labels that never overlap: a column of names beside a panel, each joined to its point by a thin line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.report.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.text import Annotation

FloatArray = NDArray[np.float64]
WIDTH = 26  # characters of a line; longer names are wrapped
_PARTS = re.compile(r"[^+,(\s]*[+,(\s]?")
LINE = 1.22  # least height of a name in font sizes
GAP, SAMPLE, SPACE = 9.0, 9.0, 3.0  # points: panel to sample, its length, sample to name


def line_count(text: str) -> int:
    """Return how many lines a label takes."""
    return len(wrapped(text).splitlines())


def wrapped(text: str, width: int = WIDTH) -> str:
    """Break a name after its separators where it has more characters than ``width``; a part is never cut."""
    lines = [""]
    for part in filter(None, _PARTS.findall(text)):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.strip() for line in lines) or " "


def spread(wanted: ArrayLike, heights: ArrayLike, *, low: float, high: float) -> FloatArray:
    """Return the centres nearest to the wanted ones at which intervals of these heights do not overlap.

    Args:
        wanted: centres in ascending order, [n].
        heights: of the intervals, [n].
        low: the intervals stay above it where there is room for all; else they grow out at both ends.
        high: and below it.
    """
    from scipy.optimize import isotonic_regression

    centres, tall = np.asarray(wanted, dtype=np.float64), np.asarray(heights, dtype=np.float64)
    if len(centres) == 0:
        return centres
    offsets = np.concatenate([[0.0], np.cumsum((tall[1:] + tall[:-1]) / 2)])
    packed: FloatArray = isotonic_regression(centres - offsets).x
    first, last = low + tall[0] / 2, high - tall[-1] / 2 - offsets[-1]
    if last < first:
        first = last = (first + last) / 2
    result: FloatArray = np.clip(packed, first, last) + offsets
    return result


@dataclass(frozen=True)
class Label:
    """A name, the point it belongs to, and a sample of how that is drawn."""

    point: tuple[float, float]
    text: Annotation
    sample: Line2D


@dataclass
class LabelColumn:
    """The names of one panel. Add them all, then let :func:`settle` place them."""

    axes: Axes
    labels: list[Label] = field(default_factory=list)

    def add(self, x: float, y: float, text: str, *, italic: bool = False, **sample: Any) -> None:
        """Name the point (x, y), in data coordinates; ``sample`` are properties of a line with a marker."""
        from matplotlib.lines import Line2D

        annotation = self.axes.annotate(
            wrapped(text),
            xy=(x, y),
            xytext=(1.15, 0.5),
            textcoords="axes fraction",
            va="center",
            fontsize=style.SMALL,
            fontstyle="italic" if italic else "normal",
            color=style.INK,
            annotation_clip=False,
        )
        line = Line2D([], [], transform=self.axes.transAxes, clip_on=False, **sample)
        line.set_in_layout(False)
        self.axes.add_artist(line)
        self.labels.append(Label((x, y), annotation, line))

    def settle(self) -> None:
        """Place the names once the panel has its final size."""
        box = self.axes.get_window_extent()
        inverse = self.axes.transAxes.inverted()
        data = np.array([label.point for label in self.labels], dtype=np.float64)
        starts = inverse.transform(self.axes.transData.transform(data))
        wide, tall = (self.axes.figure.dpi / 72 / size for size in (box.width, box.height))  # of a point
        measured = [label.text.get_window_extent().height / box.height + 2 * tall for label in self.labels]
        heights = np.maximum(measured, style.SMALL * LINE * tall)
        beside = 1 + GAP * wide
        order, places = arranged(starts, heights, beside=beside)
        for row, place in zip(order, (float(place) for place in places), strict=True):
            label, right = self.labels[row], beside + SAMPLE * wide
            label.text.set_position((right + SPACE * wide, place))
            markers_only = label.sample.get_linestyle() == "None"
            label.sample.set_data(
                [(beside + right) / 2] if markers_only else [beside, (beside + right) / 2, right],
                [place] if markers_only else [place] * 3,
            )
            label.sample.set_markevery([0] if markers_only else [1])
            self._join(starts[row], (beside, place), str(label.sample.get_color()))

    def _join(self, start: FloatArray, end: tuple[float, float], colour: str) -> None:
        from matplotlib.lines import Line2D

        places: dict[str, Any] = {"transform": self.axes.transAxes, "clip_on": False, "zorder": 1.5}
        self.axes.add_artist(Line2D([start[0], end[0]], [start[1], end[1]], color=colour, lw=0.4, alpha=0.7, **places))


def arranged(starts: FloatArray, heights: FloatArray, *, beside: float) -> tuple[list[int], FloatArray]:
    """Return the order of names from bottom to top and their centres, so that no two joining lines cross.

    Args:
        starts: [n, 2] points in widths and heights of the panel.
        heights: [n] of the names, in heights of the panel.
        beside: where the names start, in widths of the panel.
    """
    up = np.where(starts[:, 1] > 0.5, 1.0, -1.0)  # of equals, the left one is joined to the name further in
    order = list(np.lexsort((up * starts[:, 0], starts[:, 1])))
    places = _placed(starts, heights, order)
    for _ in range(len(order) ** 2):
        comparable = next((i for i in range(len(order) - 1) if _cross(starts, places, order, i, beside)), None)
        if comparable is None:
            break
        order[comparable], order[comparable + 1] = order[comparable + 1], order[comparable]
        places = _placed(starts, heights, order)
    return order, places


def _placed(starts: FloatArray, heights: FloatArray, order: Sequence[int]) -> FloatArray:
    return spread(starts[order, 1], heights[list(order)], low=-0.1, high=1.0)


def _cross(starts: FloatArray, places: FloatArray, order: Sequence[int], i: int, beside: float) -> bool:
    """Return whether the lines of two neighbouring names cross: the upper one starts below the lower one's line."""
    lower, upper = starts[order[i]], starts[order[i + 1]]
    at = max(lower[0], upper[0])
    heights = []
    for start, place in ((lower, places[i]), (upper, places[i + 1])):
        share = (at - start[0]) / max(beside - start[0], 1e-9)
        heights.append(start[1] + share * (place - start[1]))
    return bool(heights[0] > heights[1] + 1e-9)


def settle(figure: Figure, columns: Sequence[LabelColumn]) -> None:
    """Lay the figure out once, then place all names and keep the layout."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for column in columns:
        column.settle()
