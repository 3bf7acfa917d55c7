"""Which training of its victim a cell is of: a recipe that was trained twice, on two machines, gives two models."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from bench.report.rows import Row


def strays(rows: Iterable[Row]) -> frozenset[str]:
    """Return the keys of the finished cells that are of another training of their victim than most cells of it.

    A record names the weights of its victim. Older ones do not: they are told apart by the seconds of its training.
    Where there are as many of two trainings, that of the victim without a defense counts.
    """
    found = [row for row in rows if row.done]
    weights = {(row.victim_key, row.seconds("victim")): row.victim_weights for row in found if row.victim_weights}
    training = {
        row.cell_key: weights.get((row.victim_key, row.seconds("victim")), row.seconds("victim")) for row in found
    }
    counts: dict[str, Counter[str | float | None]] = defaultdict(Counter)
    for row in sorted(found, key=lambda row: row.role != "victim"):  # of equals, the first counts
        counts[row.victim_key][training[row.cell_key]] += 1
    main = {key: counter.most_common(1)[0][0] for key, counter in counts.items()}
    return frozenset(row.cell_key for row in found if training[row.cell_key] != main[row.victim_key])
