"""What a column of numbers must not mix: devices, arithmetic, library versions, and trainings of a victim."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

from bench.report.rows import trainings
from bench.report.rows.row import Row

ALIKE = ("device", "precision", "torch", "transformers", "tokenizers")  # of the environment, that numbers depend on


def mixtures(rows: Iterable[Row]) -> list[str]:
    """Return what the columns (model, task, attack) of a suite mix, a sentence for each column that does; none is fine.

    Cells of one column are compared with each other, so they should be of one environment and one training of each
    victim.
    """
    rows = [row for row in rows if row.done and row.record is not None]
    columns: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        columns[row.model, row.task, row.attack].append(row)
    others = trainings.cells_of_other_trainings(rows)
    return [
        f"{attack} on {task} ({model}) mixes {'; '.join(mixed)}"
        for (model, task, attack), part in columns.items()
        if (mixed := [*_environments(part), *_trainings(part, others)])
    ]


def different_environments(rows: Iterable[Row]) -> list[Mapping[str, str]]:
    """Return the environments of rows, each object once: most records of a store share one."""
    return list({id(where): where for row in rows for where in [row.environment]}.values())


def _environments(rows: list[Row]) -> Iterator[str]:
    of_each = Counter(id(row.environment) for row in rows)
    different = different_environments(rows)
    for name in ALIKE:
        counts: Counter[str] = Counter()
        for where in different:
            counts[where.get(name, "unknown")] += of_each[id(where)]
        if len(counts) > 1:
            yield f"{name} {', '.join(f'{value} ({count})' for value, count in counts.most_common())}"


def _trainings(rows: list[Row], others: frozenset[str]) -> Iterator[str]:
    if count := sum(row.cell_key in others for row in rows):
        yield f"two trainings of a victim in {count} of {len(rows)} cells"
