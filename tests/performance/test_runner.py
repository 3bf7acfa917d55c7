"""What the runner itself costs: seconds a cell when the cell is nothing, and how often several runners collide.

Run it as a program for the figures: ``python -m tests.performance.test_runner``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest

from bench import runner
from bench.runner import Event, Job, Outcome, Worker
from bench.store import Store
from tests.runner.tinyjobs import key

PREDICTIONS = "0123456789" * 600  # a record is about 6 kB


def execute(job: Job, store: Store, worker: Worker) -> Outcome:
    """Write the result and do nothing else."""
    if job.kind == "victim":
        store.put_artifact(job.key, {"kind": "victim"}, lambda folder: _fill(folder, job.label))
    else:
        time.sleep(job.payload or 0.0)
        store.put_record(job.key, {"schema": 1, "key": job.key, "status": "done", "predictions": PREDICTIONS})
    return "done"


def _fill(folder: Path, text: str) -> None:
    (folder / "weights.txt").write_text(text, encoding="utf-8")


def grid(victims: int, cells: int, pause: float = 0.0) -> list[Job]:
    """Return victims and, for each, cells that take ``pause`` seconds."""
    made = [Job(key(f"v{v}"), "victim", (), 1.0, f"v{v}") for v in range(victims)]
    return made + [
        Job(key(f"v{v}c{c}"), "cell", (key(f"v{v}"),), 1.0, f"v{v}c{c}", pause)
        for v in range(victims)
        for c in range(cells)
    ]


def run(folder: str, workers: int, victims: int, cells: int, pause: float) -> dict[str, float]:
    """Run the grid; return how many events of each kind there were, and seconds from the first cell to the last."""
    counts: Counter[str] = Counter()
    times: list[float] = []

    def on_event(event: Event) -> None:
        counts[event.kind] += 1
        if event.kind in ("done", "found"):
            times.append(time.perf_counter())

    jobs = grid(victims, cells, pause)
    options = {"engine": "loky", "workers": workers, "device": "cpu"}
    runner.run(jobs, store=Store(Path(folder)), execute=execute, on_event=on_event, **options)  # type: ignore[arg-type]
    return {**counts, "seconds": times[-1] - times[0]}


def many(folder: str, runners: int, *arguments: float) -> list[dict[str, float]]:
    """Let several runners work on one store at once; return what each of them counted."""
    code = "import json, sys; from tests.performance.test_runner import run as go;"
    code += "print(json.dumps(go(*json.loads(sys.argv[1]))))"
    command = [sys.executable, "-c", code, json.dumps([folder, *arguments])]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(runners)]
    return [json.loads(process.communicate()[0]) for process in started]


@pytest.mark.benchmark(group="runner: seconds a cell that does nothing")
def test_overhead_of_a_cell(benchmark: pytest.FixtureRequest, tmp_path: Path) -> None:
    cells = 50 if benchmark.disabled else 1000  # type: ignore[attr-defined]
    measured = benchmark.pedantic(run, args=(str(tmp_path), 1, 1, cells, 0.0), rounds=1)  # type: ignore[attr-defined]
    benchmark.extra_info["milliseconds a cell"] = round(1000 * measured["seconds"] / cells, 2)  # type: ignore[attr-defined]
    assert measured["done"] == cells + 1
    assert measured["seconds"] / cells < 0.25


def test_runners_on_one_store_do_each_cell_once_and_collide_rarely(tmp_path: Path) -> None:
    tallies = many(str(tmp_path), 2, 2, 4, 15, 0.05)
    assert len(list(Store(tmp_path).records())) == 60
    tries = sum(counts["start"] for counts in tallies)
    done = sum(counts["done"] for counts in tallies)
    assert done >= 64, "a runner counts as done what another one did as well"
    assert tries < 1.25 * 64, "what another one does is not sent to a worker"


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        for workers in (1, 2):
            measured = run(f"{folder}/{workers}", workers, 1, 500, 0.0)
            sys.stdout.write(f"loky, {workers} workers: {1000 * measured['seconds'] / 500:.2f} ms a cell of nothing\n")
        for runners in (1, 2, 4):
            measured = many(f"{folder}/many {runners}", runners, 2, 10, 60, 0.1)
            starts, held, seconds = (sum(f.get(k, 0) for f in measured) for k in ("start", "held", "seconds"))
            sys.stdout.write(
                f"{runners} runners x 2 workers, 610 jobs of 0.1 s: {starts:.0f} tries, {held:.0f} of them held by "
                f"another runner, {seconds / runners:.1f} s\n"
            )


if __name__ == "__main__":
    main()
