"""How many passes over one example does each test of ``doorbench inspect`` cost?

Run as ``python -m tests.performance.costs MODEL``, with a folder that ``doorbench attack ... --model embedded`` has
written. Time of the processor is measured, so that other work on the machine matters little. Writes ``costs.json`` of
``bench/checkpoints``, after each test.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from bench.checkpoints import probes
from bench.checkpoints.classifiers import SuspectClassifier

MAX_LENGTH = 64


def main(folder: Path) -> None:
    """Measure every test and write the table."""
    suspect = SuspectClassifier.open(folder)
    data = suspect.read(folder / "clean.csv")
    facts = suspect.facts(data.all, max_length=MAX_LENGTH)
    with suspect.model(facts, device="cpu", precision="auto", lean=None, scratch=folder) as received:
        given = probes.Given(suspect, facts, data, suspect.counterpart("embedded", received.model), None, 0)
        received.predict(data.selection.inputs)
        began = time.process_time()
        received.predict(data.selection.inputs)
        one = (time.process_time() - began) / len(data.selection)
        costs = {}
        for test in probes.planned(probes.chosen(None), given, pass_seconds=one):
            if test["status"] == "waiting":
                began = time.process_time()
                probes.run(test, given, received)
                costs[test["name"]] = round((time.process_time() - began) / one)
                print(test["name"], test["status"], test["why"], costs[test["name"]], flush=True)
                probes.COSTS.write_text(json.dumps(dict(sorted(costs.items())), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
