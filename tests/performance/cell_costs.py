"""What defenses cost, in trained examples: ``python -m tests.performance.cell_costs FOLDER...`` writes ``costs.json``.

The folders hold published records. Each record has the seconds of its victim, of the defense and of the evaluation, and
the three are divided by what an example took while the victim was trained, so that the machine hardly matters. Medians.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from bench.experiment import costs, record_files
from bench.plugins.chain import chain
from bench.report.rows.records import LINES


def table(folders: Iterable[Path]) -> dict[str, dict[str, float]]:
    """Return trained examples by kind of model and by defense."""
    seen: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for folder in folders:
        for one in record_files.read(record_files.files_below(folder, LINES)):
            if isinstance(one, record_files.Problem):
                raise SystemExit(str(one))
            _count(one.record, seen)
    return {kind: {name: round(median(of), 3) for name, of in sorted(by.items())} for kind, by in sorted(seen.items())}


def _count(record: Any, seen: dict[str, dict[str, list[float]]]) -> None:
    seconds, victim = record.seconds, record.recipe.victim
    if record.status != "done" or not {"victim", "evaluation"} <= seconds.keys():
        return
    trained = victim.budget["epochs"] * victim.task.parameters["max_train"]
    one = seconds["victim"] / trained
    kind = record.cell.kind or "classification"
    if record.cell.defense == "none":
        predicted = record.predictions.document()
        judged = sum(one["n"] for one in (predicted["clean"], predicted["triggered"]) if one)
        seen[kind][costs.JUDGING].append(seconds["evaluation"] / one / judged)
    elif record.role == "defended" and len(names := costs.names(chain(record.cell.defense))) == 1:
        seen[kind][names[0]].append(seconds["defense"] / one)


if __name__ == "__main__":
    text = json.dumps(table(Path(folder) for folder in sys.argv[1:]), indent=1)
    costs.PATH.write_text(text + "\n", encoding="utf-8")
