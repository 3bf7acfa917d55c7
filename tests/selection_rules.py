"""Compare rules that choose a reserve ratio, by simulation: ``python -m tests.selection_rules``.

results/ratios-minilm has full sweeps: one method at every ratio, built on 64 labels and again on 32. A draw takes some
test examples for the labels to choose on and leaves the others to judge. What is built on 32 labels stands for the
halves of the cross-fitting, what is built on 64 is what the rule ends with; a method that does not train has one model
for both. The table says for each rule how steady its ratio is, how far the loss on the sample is from the loss on what
is left, and what it costs and leaves. Nothing is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.contracts import selection
from bench.experiment.metrics import ACCURACY, BACKDOOR, rating
from bench.report.rows import records
from bench.report.rows.row import Row

ROOT = Path(__file__).parents[1]
SWEEPS = ROOT / "results" / "ratios-minilm"
TOLERANCE = 5.0
DRAWS = 400
TUNED, HALF = 64, 32
Floats = NDArray[np.float64]
Rule = Callable[[Floats, Floats], int]


@dataclass(frozen=True)
class Sweep:
    """A victim, and what one method makes of it at each ratio.

    Attributes:
        method: its name.
        ratios: ascending.
        victim: float64 [n]: 1 where it answers a test example right, else 0.
        halves: float64 [ratios, n]: the same of the candidates built on half of the labels.
        whole: float64 [ratios, n]: and of those built on all of them.
        flip: float64 [ratios]: flip rate of the latter, in percent.
        majority: share of the most frequent class, in percent.
    """

    method: str
    ratios: tuple[float, ...]
    victim: Floats
    halves: Floats
    whole: Floats
    flip: Floats
    majority: float


def candidates(victim: Floats, answers: Floats) -> list[selection.Candidate]:
    """Return the candidates of a sample, named by their place among the ratios."""
    return [selection.Candidate(place, right, None) for place, right in enumerate(answers)]


def smallest(passed: NDArray[np.bool_]) -> int:
    """Return the first place that passed; the last one where none did."""
    return int(np.argmax(passed)) if passed.any() else len(passed) - 1


def measured(victim: Floats, answers: Floats) -> int:
    """The smallest ratio whose measured drop is within the tolerance."""
    return smallest(selection.drops(victim, candidates(victim, answers)).measured <= TOLERANCE)


def isotonic(errors: float) -> Rule:
    """The smallest ratio whose fitted drop, and some standard errors more, is within the tolerance."""

    def rule(victim: Floats, answers: Floats) -> int:
        drops = selection.drops(victim, candidates(victim, answers))
        return smallest(drops.fitted + errors * drops.errors <= TOLERANCE)

    return rule


def bisected(victim: Floats, answers: Floats) -> int:
    """The rule in force: isotonic, over the ratios that bisection tries."""
    everything = candidates(victim, answers)
    tried: dict[float, selection.Candidate] = {}
    low, high = 0, len(everything) - 1
    while low < high:
        middle = (low + high) // 2
        tried[middle] = everything[middle]
        passed = selection.passes(victim, tried, middle, tolerance=TOLERANCE)
        low, high = (low, middle) if passed else (middle + 1, high)
    return low


RULES: Mapping[str, Rule] = {
    "smallest measured drop within the tolerance": measured,
    "isotonic, all ratios": isotonic(0.0),
    "isotonic, all ratios, half a standard error": isotonic(0.5),
    "isotonic, all ratios, a standard error": isotonic(1.0),
    "isotonic, bisection (in force)": bisected,
    "always 0.5": lambda _, answers: len(answers) // 2,
}


@dataclass(frozen=True)
class Drawn:
    """What a rule did in every draw of a sweep; each is float64 [draws], drops in points, the rest in percent."""

    ratio: Floats
    on_sample: Floats
    on_rest: Floats
    flip: Floats
    der: Floats


def simulate(sweep: Sweep, rule: Rule, *, size: int, rng: np.random.Generator, draws: int = DRAWS) -> Drawn:
    """Let a rule choose on samples of ``size`` test examples, and judge its choice on the others."""
    rows = []
    for _ in range(draws):
        order = rng.permutation(len(sweep.victim))
        sample, rest = order[:size], order[size:]
        chosen = rule(sweep.victim[sample], sweep.halves[:, sample])
        on_sample = 100.0 * np.mean(sweep.victim[sample] - sweep.halves[chosen, sample])
        before, after = 100.0 * sweep.victim[rest].mean(), 100.0 * sweep.whole[chosen, rest].mean()
        flip = sweep.flip[chosen]
        score = rating(after, flip, victim_acc=before, victim_flip=100.0, majority=sweep.majority)
        rows.append((sweep.ratios[chosen], on_sample, before - after, flip, float(score)))
    return Drawn(*np.array(rows).T)


def sweeps(rows: Iterable[Row]) -> Iterator[Sweep]:
    """Yield the full sweeps among the rows of a folder: a method and a victim each."""
    rows = [row for row in rows if row.predicts]
    victims = {row.victim_key: row for row in rows if row.role == "victim"}
    curves: dict[tuple[str, str], dict[int, dict[float, Row]]] = {}
    for row in rows:
        ratio = row.defense_parameters.get("reserve_ratio")
        if row.role == "defended" and ratio is not None:
            curve = curves.setdefault((row.defense_base, row.victim_key), {})
            curve.setdefault(row.clean_size, {})[float(ratio)] = row
    for (method, key), sizes in sorted(curves.items()):
        whole = sizes[max(sizes)]
        halves = sizes.get(HALF, whole)
        ratios = tuple(sorted(whole))
        yield Sweep(
            method,
            ratios,
            _right(victims[key]),
            np.stack([_right(halves[ratio]) for ratio in ratios]),
            np.stack([_right(whole[ratio]) for ratio in ratios]),
            np.array([whole[ratio].percentages[BACKDOOR.name] for ratio in ratios]),
            victims[key].percentages["majority"],
        )


def _right(row: Row) -> Floats:
    outcomes = row.outcomes[ACCURACY.name]
    assert outcomes is not None
    return outcomes


COLUMNS: Mapping[str, Callable[[Drawn], float]] = {
    "ratio": lambda drawn: float(drawn.ratio.mean()),
    "its spread": lambda drawn: float(drawn.ratio.std()),
    "drop on the labels": lambda drawn: float(drawn.on_sample.mean()),
    "drop on the rest": lambda drawn: float(drawn.on_rest.mean()),
    "rest less labels": lambda drawn: float((drawn.on_rest - drawn.on_sample).mean()),
    f"more than {TOLERANCE:g} lost": lambda drawn: 100.0 * float(np.mean(drawn.on_rest > TOLERANCE)),
    "flip rate": lambda drawn: float(drawn.flip.mean()),
    "DER": lambda drawn: float(drawn.der.mean()),
}


def table(rows: Iterable[Row]) -> str:
    """Return what each rule does, as Markdown; a line is the mean over the sweeps of a method."""
    by_method: dict[str, list[Sweep]] = {}
    for sweep in sweeps(rows):
        by_method.setdefault(sweep.method, []).append(sweep)
    lines = [f"| method, rule | {' | '.join(COLUMNS)} |", "| --- |" + " ---: |" * len(COLUMNS)]
    for method, several in by_method.items():
        for name, rule in RULES.items():
            rng = np.random.default_rng(0)
            drawn = [simulate(sweep, rule, size=TUNED, rng=rng) for sweep in several]
            numbers = (np.mean([column(one) for one in drawn]) for column in COLUMNS.values())
            lines.append(f"| {method}, {name} | {' | '.join(f'{number:.2f}' for number in numbers)} |")
    return "\n".join(lines)


def document() -> str:
    """Return the whole of results/ratios-minilm/SELECTION.md."""
    rows = [row for folder in records.folders_of(SWEEPS) for row in records.load(folder)]
    victims = len({row.victim_key for row in rows if row.role == "victim"})
    head = f"""# Rules that choose a reserve ratio

Written by `python -m tests.selection_rules` from the records beside it; a test compares them. {victims} attacked
victims, {DRAWS} draws each of {TUNED} labels, at most {TOLERANCE:g} points to lose. Percent and points; *its spread* is
the standard deviation over the draws of a victim.

"""
    return head + table(rows) + "\n"


if __name__ == "__main__":
    (SWEEPS / "SELECTION.md").write_text(document(), encoding="utf-8")
