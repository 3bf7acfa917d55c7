"""The numbers of README.md, written from the committed records: ``python -m tests.prose``; a test compares them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from bench.experiment.metrics import ACCURACY, BACKDOOR
from bench.experiment.roles import BASELINES
from bench.report.ranking import boards, words
from bench.report.ranking.leaderboard import Leaderboard, Means
from bench.report.ranking.results import Results, Setting
from bench.report.rows import records
from bench.report.rows.row import Row
from bench.store.words import counted

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAPERS = (
    "paper-mpnet",
    "paper-minilm",
)  # under results/, the flagship first; their folders are parts of the main table
BLOCK = re.compile(r"(<!-- written by python -m tests.prose -->\n).*?(<!-- end -->)", re.DOTALL)


def block() -> str:
    """Return the main table of the paper's suites for each encoder, and in words what it says."""
    return "\n\n".join(["", *(part for paper in PAPERS for part in _of_paper(ROOT / "results" / paper)), ""])


def _of_paper(paper: Path) -> Iterator[str]:
    rows: dict[str, Row] = {}
    for folder in records.folders_of(paper):
        rows.update((row.cell_key, row) for row in records.load(folder))
    (name, part), *_ = boards.split(rows.values()).items()
    leaderboard = Leaderboard(Results(part))
    tasks = list(dict.fromkeys(place.task for place in leaderboard.implanted))
    models = ", ".join(dict.fromkeys(place.model for place in leaderboard.implanted))
    yield (f"Encoder {models}: {ACCURACY.title} / {BACKDOOR.title} in percent, {name.words}; {leaderboard.span()}.")
    yield _table(leaderboard, tasks)
    yield words.best(leaderboard.standings())


def _table(leaderboard: Leaderboard, tasks: list[str]) -> str:
    lines = ["| | " + " | ".join(f"{task} ({counted(_seeds(leaderboard, task), 'seed')})" for task in tasks) + " |"]
    lines.append("|---" * (len(tasks) + 1) + "|")
    for baseline in BASELINES[::-1]:
        means = [leaderboard.reference(baseline.role, _places(leaderboard, task)) for task in tasks]
        lines.append(f"| *{baseline.label}* | {' | '.join(map(_pair, means))} |")
    for defense in dict.fromkeys(standing.line.defense for standing in leaderboard.standings()):
        lines.append(f"| {defense} | {' | '.join(_cells(leaderboard, defense, tasks))} |")
    return "\n".join(lines)


def _cells(leaderboard: Leaderboard, defense: str, tasks: list[str]) -> Iterator[str]:
    for task in tasks:
        standings = (one for one in leaderboard.standings(_places(leaderboard, task)) if one.line.defense == defense)
        standing = next(standings, None)
        yield _pair(standing.means) if standing is not None and standing.complete else "–"


def _places(leaderboard: Leaderboard, task: str) -> list[Setting]:
    return [place for place in leaderboard.implanted if place.task == task]


def _seeds(leaderboard: Leaderboard, task: str) -> int:
    return min(len(leaderboard.results.used_seeds(place)) for place in _places(leaderboard, task))


def _pair(means: Means) -> str:
    return f"{means[ACCURACY.name]:.1f} / {means[BACKDOOR.name]:.1f}"


if __name__ == "__main__":
    README.write_text(BLOCK.sub(lambda m: m[1] + block() + m[2], README.read_text(encoding="utf-8")), encoding="utf-8")
