"""One suite and one store: what the commands do with them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import suite as suites
from bench.chain import needs_of
from bench.errors import RequestError, unknown
from bench.plan import Plan
from bench.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from bench.report.rows import Row
    from bench.runner import Summary

TABLES = ("terminal", "md", "csv", "latex", "html")
EXPORTS = ("parquet", "csv", "jsonl")


@dataclass(frozen=True)
class Session:
    """A plan and the store that holds its results."""

    plan: Plan
    store: Store

    @classmethod
    def open(cls, name: str, settings: Sequence[str], folder: Path | None) -> Session:
        """Read a suite, apply settings and open the store."""
        return cls(Plan(suites.load(name, settings)), Store(folder))

    def run(self, *, again: bool, **options: Any) -> Summary:
        """Run what is missing; with ``again`` also what failed."""
        from bench import runner, work

        if again:
            for job in self.plan.jobs:
                self.store.drop_failure(job.key)
        with runner.progress(self.plan.jobs) as on_event:
            return runner.run(self.plan.jobs, store=self.store, execute=work.execute, on_event=on_event, **options)

    def forecast(self) -> str:
        """Say in words what a run would do."""
        from bench import runner

        found = runner.status(self.plan.jobs, self.store)
        victims = len(self.plan.victims)
        lines = [
            f"suite {self.plan.suite.name}: {victims} victims, {len(self.plan.cells)} cells "
            f"({sum(cell.listed for cell in self.plan.cells.values())} asked for, the rest are floors and ceilings)",
            f"store {self.store.root}",
            f"done {found.done}, failed {found.failed}, to do {found.waiting}, running elsewhere {len(found.running)}",
        ]
        return "\n".join(lines)

    def show_status(self) -> None:
        """Print what is done, running, waiting and failed."""
        from rich.console import Console

        from bench import runner

        Console().print(runner.render_status(runner.status(self.plan.jobs, self.store)))

    def rows(self) -> list[Row]:
        """Return one row for each cell, floors and ceilings included, with its record if there is one."""
        from bench.report.rows import Row

        rows = []
        for key, cell in self.plan.cells.items():
            defense = cell.defense
            rows.append(
                Row(
                    suite=self.plan.suite.name,
                    task=cell.victim.task_spec,
                    model=cell.victim.model,
                    attack=cell.victim.attack.spec,
                    defense=cell.defense_spec,
                    seed=cell.victim.seed,
                    role=cell.role,
                    listed=cell.listed,
                    victim_key=self.plan.key_of_victim(cell),
                    cell_key=key,
                    clean_size=cell.clean_size,
                    attack_base=cell.victim.attack.name,
                    defense_base=cell.defense_spec if defense is None else defense.recipe()["name"],
                    attack_parameters=cell.victim.attack.parameters(),
                    defense_parameters={} if defense is None else defense.parameters(),
                    needs=() if defense is None else tuple(sorted(str(need) for need in needs_of(defense))),
                    record=self.store.record(key),
                    failure=self.store.failure(key),
                )
            )
        return rows

    def frame(self) -> pd.DataFrame:
        """Return the export table."""
        from bench import report

        gate = self.plan.suite.gate
        return report.frame(self.rows(), min_asr=gate.min_asr, max_acc_drop=gate.max_acc_drop)
