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
Choose = Callable[[Floats, Floats], int]


@dataclass(frozen=True)
class Rule:
    """How a ratio is chosen: by what candidates lose against the victim, or against the candidate of the largest ratio.

    Attributes:
        choose: returns the place of the chosen ratio, given float64 [n] of the reference and [ratios, n].
        against_largest: what the reference is.
    """

    choose: Choose
    against_largest: bool = False


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


def candidates(answers: Floats) -> list[selection.Candidate]:
    """Return the candidates of a sample, named by their place among the ratios."""
    return [selection.Candidate(place, right, None) for place, right in enumerate(answers)]


def smallest(passed: NDArray[np.bool_]) -> int:
    """Return the first place that passed; the last one where none did."""
    return int(np.argmax(passed)) if passed.any() else len(passed) - 1


def measured(reference: Floats, answers: Floats) -> int:
    """The smallest ratio whose measured drop is within the tolerance."""
    return smallest(selection.drops(reference, candidates(answers)).measured <= TOLERANCE)


def isotonic(errors: float) -> Choose:
    """The smallest ratio whose fitted drop, and some standard errors more, is within the tolerance."""

    def rule(reference: Floats, answers: Floats) -> int:
        drops = selection.drops(reference, candidates(answers))
        return smallest(drops.fitted + errors * drops.errors <= TOLERANCE)

    return rule


def bisected(reference: Floats, answers: Floats) -> int:
    """The isotonic rule over the ratios that bisection tries, and the largest one."""
    everything = candidates(answers)
    tried: dict[float, selection.Candidate] = {everything[-1].value: everything[-1]}
    low, high = 0, len(everything) - 1
    while low < high:
        middle = (low + high) // 2
        tried[middle] = everything[middle]
        passed = selection.passes(reference, tried, middle, tolerance=TOLERANCE)
        low, high = (low, middle) if passed else (middle + 1, high)
    return low


_PLAIN: Mapping[str, Choose] = {
    "smallest measured loss within the limit": measured,
    "isotonic": isotonic(0.0),
    "isotonic, half a standard error": isotonic(0.5),
    "isotonic, a standard error": isotonic(1.0),
    "isotonic, bisection": bisected,
}
IN_FORCE = "isotonic, bisection, against the largest ratio"
RULES: Mapping[str, Rule] = {
    **{f"{name}, against the victim": Rule(choose) for name, choose in _PLAIN.items()},
    **{f"{name}, against the largest ratio": Rule(choose, True) for name, choose in _PLAIN.items()},
    "always 0.5": Rule(lambda _, answers: len(answers) // 2),
}


@dataclass(frozen=True)
class Drawn:
    """What a rule did in every draw of a sweep; each is float64 [draws], drops in points, the rest in percent.

    Attributes:
        ratio: the chosen one.
        seen: its drop on the sample against the rule's reference.
        true: its drop on the other examples against the same reference, both built on all labels.
        lost: its drop on the other examples against the victim.
        flip, der: of what is built with it.
    """

    ratio: Floats
    seen: Floats
    true: Floats
    lost: Floats
    flip: Floats
    der: Floats


def simulate(sweep: Sweep, rule: Rule, *, size: int, rng: np.random.Generator, draws: int = DRAWS) -> Drawn:
    """Let a rule choose on samples of ``size`` test examples, and judge its choice on the others."""
    rows = []
    for _ in range(draws):
        order = rng.permutation(len(sweep.victim))
        sample, rest = order[:size], order[size:]
        halves, whole = sweep.halves[:, sample], sweep.whole[:, rest]
        known, true = (halves[-1], whole[-1]) if rule.against_largest else (sweep.victim[sample], sweep.victim[rest])
        chosen = rule.choose(known, halves)
        before, after = 100.0 * sweep.victim[rest].mean(), 100.0 * whole[chosen].mean()
        score = rating(after, sweep.flip[chosen], victim_acc=before, victim_flip=100.0, majority=sweep.majority)
        seen = 100.0 * float(np.mean(known - halves[chosen]))
        drop = 100.0 * float(true.mean()) - after
        rows.append((sweep.ratios[chosen], seen, drop, before - after, sweep.flip[chosen], float(score)))
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
    "loss on the labels": lambda drawn: float(drawn.seen.mean()),
    "on other text": lambda drawn: float(drawn.true.mean()),
    "difference": lambda drawn: float((drawn.true - drawn.seen).mean()),
    "ACC lost": lambda drawn: float(drawn.lost.mean()),
    f"more than {TOLERANCE:g} lost": lambda drawn: 100.0 * float(np.mean(drawn.lost > TOLERANCE)),
    "flip rate": lambda drawn: float(drawn.flip.mean()),
    "DER": lambda drawn: float(drawn.der.mean()),
}


def table(rows: Iterable[Row]) -> str:
    """Return what each rule does, as Markdown; a line is the mean over the sweeps of a method."""
    by_method: dict[str, list[Sweep]] = {}
    for sweep in sweeps(rows):
        by_method.setdefault(sweep.method, []).append(sweep)
    lines = [f"| method: rule | {' | '.join(COLUMNS)} |", "| --- |" + " ---: |" * len(COLUMNS)]
    for method, several in by_method.items():
        for name, rule in RULES.items():
            rng = np.random.default_rng(0)
            drawn = [simulate(sweep, rule, size=TUNED, rng=rng) for sweep in several]
            numbers = (np.mean([column(one) for one in drawn]) for column in COLUMNS.values())
            mark = " (in force)" if name == IN_FORCE else ""
            lines.append(f"| {method}: {name}{mark} | {' | '.join(f'{number:.2f}' for number in numbers)} |")
    return "\n".join(lines)


def document() -> str:
    """Return the whole of results/ratios-minilm/SELECTION.md."""
    rows = [row for folder in records.folders_of(SWEEPS) for row in records.load(folder)]
    head = f"""# Rules that choose a reserve ratio

Written by `python -m tests.selection_rules` from the records beside it; a test compares them.
{len(list(sweeps(rows)))} full sweeps, {DRAWS} draws each of {TUNED} labels, at most {TOLERANCE:g} points to lose.
Percent and points. *Its spread*: the standard deviation of the ratio over the draws of a sweep. *Loss on the labels*,
*on other text*: of the chosen candidate, against what the rule compares with. *ACC lost*: against the victim, on other
text.

"""
    return head + table(rows) + "\n"


if __name__ == "__main__":
    (SWEEPS / "SELECTION.md").write_text(document(), encoding="utf-8")
