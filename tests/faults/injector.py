"""Everything at once: calls that fail, processes that are killed or stopped, bytes that flip, folders that mean harm.

``python -m tests.faults.injector --faults 1000`` takes a few minutes and prints a table of figures. It ends with 1 if a
record was lost or wrong, or if anything but a line of plain words came out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench import runner
from bench.store import Store
from tests.faults import hostile_folders
from tests.faults.faultjobs import execute, grid

ROOT = Path(__file__).parents[2]
VICTIMS, CELLS, PAUSE = 5, 24, 0.02
HEARTBEAT = 1.0
PATIENCE = 300.0  # seconds without anything new in the store after which an undisturbed runner counts as stuck
ORPHAN = "prep_data = pickle.load(from_parent)"  # loky's words for a worker whose runner was killed as it started it
STOPPED = 2.5 * HEARTBEAT  # seconds; longer than an owner counts as alive without a heartbeat


@dataclass
class Figures:
    """What was done, and what came of it.

    Attributes:
        counts: kills, stops, flips, rounds, runners that ended in one line, and workers that were started by a runner
            that was killed before it had told them what to do: none of our code runs in them.
        calls: faults by the call that failed.
        lost, wrong: keys of records that are missing, or differ from those of an undisturbed run.
        tracebacks: texts of errors that are no line of words.
        inputs: hostile folders tried.
        accepted: those that were taken for good, or took too much time or memory.
    """

    counts: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)
    inputs: int = 0
    accepted: list[str] = field(default_factory=list)

    @property
    def faults(self) -> int:
        """Calls that failed."""
        return self.calls.total()

    @property
    def good(self) -> bool:
        """Whether nothing came out as it must not."""
        return not (self.lost or self.wrong or self.tracebacks or self.accepted)

    def table(self) -> str:
        """Return the figures, one a line."""
        calls = ", ".join(f"{name} {count}" for name, count in self.calls.most_common())
        lines = {
            "calls that failed": f"{self.faults} ({calls})",
            "processes killed": self.counts["kills"],
            f"processes stopped for {STOPPED:g} s": self.counts["stops"],
            "bytes flipped": self.counts["flips"],
            "grids": f"{self.counts['rounds']} of {1 + VICTIMS * (1 + CELLS)} jobs",
            "runners that ended in one line": self.counts["lines"],
            "workers without a runner": self.counts["orphans"],
            "hostile folders": self.inputs,
            "records lost": len(self.lost),
            "records wrong": len(self.wrong),
            "tracebacks": len(self.tracebacks),
            "hostile folders taken for good": ", ".join(self.accepted) or 0,
        }
        return "\n".join(f"{name:32} {value}" for name, value in lines.items())


class Round:
    """A grid in a new store, two runners with a worker each, and somebody who disturbs them until it is done."""

    def __init__(self, folder: Path, figures: Figures, dice: random.Random, *, rate: float, most: int) -> None:
        self.folder, self.figures, self.dice = folder, figures, dice
        self.root, self.log = folder / "store", folder / "faults"
        self.flaky = json.dumps({"root": str(self.root), "rate": rate, "log": str(self.log), "most": most})
        self.log.touch()

    def start(self, *, disturbed: bool) -> Any:
        """Start a runner."""
        arguments = [self.root, self.folder / "log", 1, VICTIMS, CELLS, PAUSE]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "DOORBENCH_HEARTBEAT": str(HEARTBEAT)}
        environment |= {"FAULT_IO": self.flaky} if disturbed else {}
        with (self.folder / "errors").open("a") as errors:
            command = [sys.executable, "-m", "tests.faults.faultjobs", *map(str, arguments)]
            return psutil.Popen(command, cwd=ROOT, env=environment, stdout=errors, stderr=errors)

    def run(self, *, seconds: float) -> None:
        """Disturb the grid until it is done or the time is over, then let it end in peace and look at what is there."""
        Store(self.root)
        end = time.monotonic() + seconds
        crew = [self.start(disturbed=True) for _ in range(2)]
        try:
            while time.monotonic() < end and not all(process.poll() == 0 for process in crew):
                time.sleep(self.dice.expovariate(2.0))
                self.disturb(crew)
                for i, process in enumerate(crew):
                    if process.poll() not in (None, 0):
                        self.figures.counts["lines"] += process.poll() == 2
                        crew[i] = self.start(disturbed=True)
        finally:
            for process in crew:
                for one in [*workers_of(process), process]:
                    kill(one)
        self.figures.calls.update(self.log.read_text().split())
        self.end_in_peace()
        self.look()

    def end_in_peace(self) -> None:
        """Let a runner that nobody disturbs do what is left."""
        last = self.start(disturbed=False)
        seen, since = self.progress(), time.monotonic()
        while last.poll() is None and time.monotonic() - since < PATIENCE:
            time.sleep(1.0)
            if (now := self.progress()) != seen:
                seen, since = now, time.monotonic()
        if last.poll() is None:
            count = len(self.errors())
            for process in (last, *workers_of(last)):
                process.send_signal(signal.SIGUSR1)
            time.sleep(2.0)
            kill(last)
            where = "\n\n".join(self.errors()[count - 1 :])
            self.figures.tracebacks.append(f"the last runner did nothing for {PATIENCE:g} s: {where}")
        elif last.returncode != 0:
            self.figures.tracebacks.append(f"the last runner ended with {last.returncode}:{self.errors()[-1]}")

    def progress(self) -> list[str]:
        """Return the names of what the jobs have made so far."""
        return sorted(os.listdir(self.root / "damaged") + [path.name for path in self.root.glob("[ar]*/*/*")])

    def disturb(self, crew: list[Any]) -> None:
        """Kill or stop somebody, or flip a byte, now and then."""
        boss = self.dice.choice(crew)
        prey = self.dice.choice([boss, *workers_of(boss), *workers_of(boss)])
        match self.dice.choices(("kill", "stop", "flip", "nothing"), (1, 1, 1, 3))[0]:
            case "kill":
                self.figures.counts["kills"] += kill(prey)
            case "stop":
                with contextlib.suppress(psutil.Error):  # it may end by itself at any moment
                    prey.send_signal(signal.SIGSTOP)
                    self.figures.counts["stops"] += 1
                    time.sleep(STOPPED)
                    prey.send_signal(signal.SIGCONT)
            case "flip":
                self.figures.counts["flips"] += self.flip()

    def flip(self) -> bool:
        """Change a byte of a record, or of a file of an artifact."""
        rooms = ("records", "artifacts")
        files = [path for room in rooms for path in (self.root / room).rglob("*") if path.is_file()]
        if not files:
            return False
        path = self.dice.choice(files)
        content = bytearray(path.read_bytes())
        content[self.dice.randrange(len(content))] ^= 1 << self.dice.randrange(8)
        path.write_bytes(content)
        return True

    def look(self) -> None:
        """Compare the store with that of an undisturbed run."""
        calm = Store(self.folder / "calm")
        jobs = grid(VICTIMS, CELLS, pause=0.0)
        runner.run(jobs, store=calm, execute=execute, engine="serial", device="cpu")
        store = Store(self.root)
        if not store.verify().ok:  # flipped after it had been used; made again as any other
            self.end_in_peace()
        wanted = {record["key"]: bare(record) for record in calm.records()}
        records = {record["key"]: bare(record) for record in store.records()}
        self.figures.lost += wanted.keys() - records.keys()
        self.figures.wrong += [key for key, record in records.items() if wanted.get(key) != record]
        said = [text for text in self.errors() if "Traceback" in text]
        self.figures.counts["orphans"] += sum(text.count(ORPHAN) for text in said)
        self.figures.tracebacks += [text for text in said if text.count("Traceback") > text.count(ORPHAN)]
        self.figures.counts["rounds"] += 1

    def errors(self) -> list[str]:
        """Return what the processes said."""
        return (self.folder / "errors").read_text().split("\n\n")


def bare(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in {"seconds", "environment"}}


def workers_of(process: Any) -> list[Any]:
    """Return the loky workers of a runner."""
    try:
        return [child for child in process.children() if "--process-name" in child.cmdline()]
    except psutil.Error:
        return []


def kill(process: Any) -> bool:
    """Kill a process; return whether it was there."""
    try:
        process.kill()
        process.wait(timeout=10)
    except (psutil.Error, subprocess.TimeoutExpired):
        return False
    return True


def inject(folder: Path, *, faults: int, rate: float, seed: int, seconds: float = 60.0, inputs: int = 200) -> Figures:
    """Disturb one grid after the other until enough calls have failed, then try folders that mean harm."""
    figures, dice = Figures(), random.Random(seed)
    while figures.faults < faults and figures.good:
        place = folder / f"round {figures.counts['rounds']}"
        place.mkdir()
        Round(place, figures, dice, rate=rate, most=faults - figures.faults).run(seconds=seconds)
    for name, good in hostile_folders.tried(folder / "folders", dice, count=inputs):
        figures.inputs += 1
        figures.accepted += [] if good else [name]
    return figures


def main() -> None:
    """Inject, and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faults", type=int, default=1000, help="calls that fail")
    parser.add_argument("--rate", type=float, default=0.03, help="share of the calls that fail, 0.01 to 0.05")
    parser.add_argument("--inputs", type=int, default=200, help="hostile folders")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        figures = inject(Path(folder), faults=given.faults, rate=given.rate, seed=given.seed, inputs=given.inputs)
    sys.stdout.write(f"{figures.table()}\n{'seconds':32} {time.monotonic() - started:.0f}\n")
    for text in figures.tracebacks[:3]:
        sys.stdout.write(f"\n{text}\n")
    sys.exit(0 if figures.good else 1)


if __name__ == "__main__":
    main()
