"""Which training of its victim a cell is of: a recipe that was trained twice, on two machines, gives two models."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import TypeVar

from bench.report.rows.row import Row

T = TypeVar("T")


def merge_victim_keys(rows: Sequence[tuple[Row, str]]) -> list[Row]:
    """Return the rows with one key for each victim: the one that most of its records name.

    A victim that was trained under two versions of the libraries has two keys. Its cells are compared all the same,
    and :func:`cells_of_other_trainings` says which of them are of the other training.

    Args:
        rows: each with what names its victim apart from the versions.
    """
    main = _commonest([(row, victim, row.victim_key) for row, victim in rows if row.record is not None])
    return [row.renamed(victim_key=main.get(victim, row.victim_key)) for row, victim in rows]


def cells_of_other_trainings(rows: Iterable[Row]) -> frozenset[str]:
    """Return the keys of the finished cells that are not of the weights that the gate judges.

    Those are the weights of the undefended victim, or as long as it is not finished those of most cells. A record names
    the weights of its victim. Older ones do not: they are told apart by the seconds of its training.
    """
    finished = [row for row in rows if row.done]
    named = {(row.victim_key, row.victim_weights) for row in finished}
    if all(weights for _, weights in named) and len(named) == len({victim for victim, _ in named}):
        return frozenset()  # every victim was trained once
    done = [(row, (row.victim_key, row.seconds("victim"))) for row in finished]
    weights = {timed: row.victim_weights for row, timed in done if row.victim_weights}
    trainings = [(row, row.victim_key, weights.get(timed, timed[1])) for row, timed in done]
    judged = {victim: training for row, victim, training in trainings if row.role == "victim"}
    main = _commonest(trainings) | judged
    return frozenset(row.cell_key for row, victim, training in trainings if training != main[victim])


def _commonest(rows: Iterable[tuple[Row, str, T]]) -> dict[str, T]:
    """Return the training that most rows of each victim are of, given rows with their victim and training."""
    counts: dict[str, Counter[T]] = defaultdict(Counter)
    for _, victim, training in sorted(rows, key=lambda one: one[0].role != "victim"):  # of equals, the first counts
        counts[victim][training] += 1
    return {victim: counter.most_common(1)[0][0] for victim, counter in counts.items()}
