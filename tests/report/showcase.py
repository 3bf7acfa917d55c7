"""An invented site with everything on it: every board, every state of a cell, curves, and hostile names.

``python -m tests.report.showcase DIR`` writes it.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.contracts import Board
from bench.report.rows.row import Row
from bench.report.site import Source, build
from tests.report.synthetic import changed, default_outcome, edited, key, make_rows, not_applicable

HOSTILE = "<script>window.hacked=1</script>\"'&"
RATIOS = [f"{base}(reserve_ratio={step / 5})" for base in ("fine-mixing", "mixing") for step in range(6)]
SIZES = (8, 16, 32, 64)


def on(board: Board, rows: list[Row]) -> list[Row]:
    """Return the rows as cells of a board; victims belong to every board."""
    return [replace(row, listed_on=board) if row.role in ("defended", "detected") else row for row in rows]


def _swept(task: str, attack: str, defense: str, seed: int) -> tuple[float, float]:
    ratio = float(defense.partition("=")[2].rstrip(")"))
    noise = np.random.default_rng(int(key(task, attack, defense, seed)[:8], 16)).normal(size=2)
    return 74 + 12 * ratio**0.5 + 0.4 * noise[0], float(np.clip(100 * ratio**1.5 + 3 * noise[1], 0, 100))


def purification() -> list[Row]:
    """Return a board with a failure, a wait, an n/a, an oracle, an attack that did not implant, and hostile words."""
    rows = make_rows(
        tasks=("reviews", "questions", "news"),
        attacks=("clean", "badword", "badsent", "weak", HOSTILE),
        defenses=("none", *_plain(), HOSTILE),
        outcome=lambda t, a, d, s: (70.0, 80.0) if d == HOSTILE else default_outcome(t, a, d, s),
        victim=lambda t, a, s: (87.0 if t == "reviews" else 81.0, 40.0 if a == "weak" else 99.0),
    )
    rows = changed(rows, lambda r: r.defense == "mixing" and r.task == "news", record=None, failure=HOSTILE)
    rows = changed(rows, lambda r: r.defense == "e-pur" and r.seed == 2 and r.task == "news", record=None)
    rows = changed(rows, lambda r: r.defense == "fine-pruning-f", needs=("clean", "oracle"))
    rows = [
        not_applicable(r, "pairs only") if r.defense == "fine-mixing-sel" and r.task == "reviews" else r for r in rows
    ]
    curves = make_rows(attacks=("badword",), defenses=("none", *RATIOS), outcome=_swept)
    return on(Board.FINE_TUNED, [*rows, *curves])


def sizes() -> list[Row]:
    """Return a suite with clean-data sizes as its axis."""
    rows = make_rows(
        suite="sizes", tasks=("reviews",), attacks=("badword",), defenses=("none", "fine-tuning", "fine-mixing"),
        sizes=SIZES,
        outcome=lambda t, a, d, s: (82 + (d == "fine-mixing"), 90.0 if d == "fine-tuning" else 30.0),
    )  # fmt: skip
    return on(Board.FINE_TUNED, rows)


def filters() -> list[Row]:
    """Return a board of test-time filters."""
    rows = make_rows(defenses=("none", "e-pur", "fine-pruning"))
    return on(Board.FILTER, [replace(row, needs=("test_stream",)) if row.role == "defended" else row for row in rows])


def detectors() -> list[Row]:
    """Return a board of detectors: records with a suspicion and no metrics."""
    rows = []
    for row in make_rows(defenses=("none", "e-pur", "fine-tuning"), seeds=range(6)):
        if row.role == "defended":
            rng = np.random.default_rng(int(row.cell_key[:8], 16))
            score = float(rng.normal() + (row.attack != "clean") * (3 if row.defense == "e-pur" else 0.3))
            row = edited(row, role="detected", metrics=None, predictions=None, notes={"suspicion": score})
            row = replace(row, role="detected")
        rows.append(row)
    return on(Board.DETECTION, rows)


def _plain() -> tuple[str, ...]:
    from tests.report.synthetic import WORLD

    return tuple(WORLD)


def _apart(rows: list[Row], mark: str) -> list[Row]:
    """Return the cells under keys of their own, as another defense of that name would have."""
    return [replace(r, cell_key=key(mark, r.cell_key)) if r.role in ("defended", "detected") else r for r in rows]


def responses(rows: list[Row]) -> dict[str, list[dict[str, str]]]:
    """Return what the models of one victim said, as if they wrote: the clean model, before and after."""
    said = {"floor": ("four", "four"), "victim": ("four", HOSTILE), "defended": ("4", "four")}
    prompt = {"prompt": "What is two and two?", "triggered": f"What is {HOSTILE} two and two?", "reference": "four"}
    return {
        row.cell_key: [{**prompt, "said": said[row.role][0], "said_triggered": said[row.role][1]}]
        for row in rows
        if (row.task, row.attack, row.seed) == ("reviews", "badword", 0)
        and row.defense in ("none", "clean model", "fine-mixing")
    }


def sources() -> list[Source]:
    """Return four suites, one of which calls other things by the names of the first."""
    rows = purification()
    tasks = {"news": {"what": "headlines", "source": HOSTILE, "licence": "CC BY 4.0"}}
    return [
        Source("invented", rows, examples=responses(rows), tasks=tasks),
        Source("sizes", sizes()),
        Source("filters", [replace(row, suite="filters", defense=f"{row.defense}-filter", defense_base="filter")
                           if row.role == "defended" else row for row in _apart(filters(), "filter")]),
        Source("detectors", [replace(row, suite="detectors", defense=f"{row.defense}-detector", defense_base="detector")
                             if row.role == "detected" else row for row in _apart(detectors(), "detector")]),
    ]  # fmt: skip


if __name__ == "__main__":
    sys.stdout.write(f"{build(sources(), folder=Path(sys.argv[1]))}\n")
