"""What the defenses of a board do, beside what their papers say: ``python -m tests.behaviour``.

results/board-generation/methods.yaml says in words for every defense what its paper says, whether it does so here, and
if not, why. METHODS.md is that with the numbers of the records; a test compares them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import yaml

from bench.experiment.metrics import ACCURACY, BACKDOOR
from bench.experiment.roles import DEFENDED
from bench.report.ranking.detection import suspicion_of
from bench.report.rows import records
from bench.report.rows.row import Row

FOLDER = Path(__file__).parents[1] / "results" / "board-generation"
SAID, WRITTEN = FOLDER / "methods.yaml", FOLDER / "METHODS.md"
HEAD = """# What the defenses do, beside what their papers say

Written by `python -m tests.behaviour` from the records beside it and from `methods.yaml`. Means over the attacks: flip
rate, and points of ACC lost against the victim. *Here*: whether it does on this small model what its paper reports on
large ones; what works on models of 7 billion parameters only is untested here, not refuted. *Why*: what was looked at
in the weights or the notes of the records says *seen*; the rest is what we believe.
"""


def text() -> str:
    """Return METHODS.md."""
    rows = records.load(FOLDER)
    said = yaml.safe_load(SAID.read_text(encoding="utf-8"))
    blocks = [HEAD]
    for title, methods in said.items():
        lines = ["| defense | numbers | its paper | here | why |", "|---|---|---|---|---|"]
        for name, words in methods.items():
            lines.append(f"| {name} | {numbers(rows, name)} | {words['paper']} | {words['here']} | {words['why']} |")
        blocks.append(f"## {title}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(blocks)


def unsaid() -> set[str]:
    """Return the defenses of the board of which methods.yaml says nothing."""
    said = {name for methods in yaml.safe_load(SAID.read_text(encoding="utf-8")).values() for name in methods}
    return {row.defense for row in records.load(FOLDER) if row.role in DEFENDED} - said


def numbers(rows: Sequence[Row], defense: str) -> str:
    """Return what a defense does, in short: suspicions where it judges models."""
    cells = [row for row in rows if row.defense == defense and row.done and row.listed]
    if all(row.role == "detected" for row in cells):
        return ", ".join(f"{row.attack_base} {suspicion_of(row):.2f}" for row in cells)
    victims = {row.victim_key: row for row in rows if row.role == "victim"}
    attacked = [row for row in cells if row.attack_base != "clean"]
    flip = mean(row.percentages[BACKDOOR.name] for row in attacked)
    acc = mean(victims[row.victim_key].percentages[ACCURACY.name] - row.percentages[ACCURACY.name] for row in attacked)
    return f"flip {flip:.1f}, lost {acc:.1f}"


if __name__ == "__main__":
    WRITTEN.write_text(text(), encoding="utf-8")
