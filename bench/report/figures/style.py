"""The one look of every figure: sizes for print, a colour-blind safe palette, a marker of its own for each defense."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.experiment.roles import FLOOR, VICTIM, Baseline
from bench.store import outputs
from bench.suites.specs import split_top

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMN, PAGE = 3.35, 6.9  # inches: one column and both columns of a two-column page
SMALL, TEXT = 6.5, 7.5  # points
DPI = 200
# Okabe and Ito's palette, darkest first; its yellow cannot be read on white and is left out.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#6F4E37")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)))
INK, GREY, FAINT = "#222222", "#767676", "#B0B0B0"
DASHES_OF: dict[Baseline, Any] = {FLOOR: ":", VICTIM: (0, (5, 2))}
SIGNS = {FLOOR: "*", VICTIM: "x"}
_RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": TEXT,
    "axes.titlesize": TEXT,
    "axes.labelsize": TEXT,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.2,
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "text.parse_math": False,
    "figure.constrained_layout.h_pad": 0.05,
    "figure.constrained_layout.w_pad": 0.05,
}


@contextmanager
def applied() -> Iterator[None]:
    """Draw in the house style, whatever the user's own settings are."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        yield


@dataclass(frozen=True)
class Look:
    """How a defense is drawn."""

    colour: str
    marker: str
    filled: bool
    dash: Any

    @property
    def face(self) -> str:
        """The colour inside the marker."""
        return self.colour if self.filled else "white"

    def drawn(self, *, line: bool) -> dict[str, Any]:
        """Return the properties of a matplotlib line: markers joined by lines, or markers alone."""
        return {
            "color": self.colour,
            "marker": self.marker,
            "markerfacecolor": self.face,
            "markeredgewidth": 0.8,
            "markersize": 3.2 if line else 4.2,
            "linestyle": self.dash if line else "None",
            "linewidth": 1.3 if line else 0,
        }

    def greyed(self) -> Look:
        """Return the same shape in grey, for attacks that did not implant."""
        return Look(GREY, self.marker, self.filled, self.dash)


def looks(defenses: Iterable[str]) -> dict[str, Look]:
    """Return a look for each defense, no two alike.

    The last part of a chain decides colour and marker, a part before it makes the marker hollow and the line dashed:
    ``e-pur+fine-mixing`` is seen as a relative of ``fine-mixing``.
    """
    families: dict[str, int] = {}
    by_defense: dict[str, Look] = {}
    for defense in dict.fromkeys(defenses):
        parts = split_top(defense, "+")
        base = re.sub(r"[\s(\[†].*", "", parts[-1])
        family = families.setdefault(base, len(families))
        for turn in count():
            marker = MARKERS[(family + 3 * turn) % len(MARKERS)]
            dash = DASHES[(len(parts) > 1) + 2 * (turn % 2)]
            look = Look(COLOURS[family % len(COLOURS)], marker, len(parts) == 1, dash)
            if look not in by_defense.values() or turn > len(MARKERS) * len(COLOURS):
                break
        by_defense[defense] = look
    return by_defense


def save(figure: Figure, path: Path) -> list[Path]:
    """Write ``<path>.png`` and ``<path>.pdf``; the same figure gives the same bytes."""
    dateless = {"Creator": "DoorBench", "Producer": "matplotlib", "CreationDate": None}
    options: dict[str, dict[str, Any]] = {
        ".png": {"dpi": DPI, "metadata": {"Software": "DoorBench"}},
        ".pdf": {"metadata": dateless},
    }
    written = []
    for ending, how in options.items():
        written.append(path.with_name(path.name + ending))
        with applied(), outputs.beside(written[-1]) as file:
            figure.savefig(file, **how)
    return written
