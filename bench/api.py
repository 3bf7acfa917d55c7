"""The benchmark from Python: six functions, for notebooks and scripts.

>>> from bench import evaluate
>>> outcome = evaluate("badword", "e-pur+fine-tuning", task="reviews", model="embedded")  # doctest: +SKIP
>>> outcome.asr, outcome.victim_asr  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench import runner
from bench.contracts import Attack, Budget, Defense, Task
from bench.errors import RequestError
from bench.experiment import recipes, work
from bench.experiment.grid import create_attack, create_task
from bench.experiment.plan import Plan, plan_of
from bench.experiment.result_store import ResultStore
from bench.plugins.chain import chain
from bench.suites import suite as suites
from bench.suites.suite import Entry, Suite

if TYPE_CHECKING:
    from pandas import DataFrame

Engine = Literal["serial", "loky", "dask"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One attack against one defense, with what the numbers have to be read against.

    Every metric is an attribute, such as ``acc``, ``asr`` and ``ra`` of the defended model, ``clean_acc`` and
    ``clean_asr`` of the clean model on the same test sets (the ceiling and the floor), and ``victim_acc`` and
    ``victim_asr`` of the victim without a defense.

    Attributes:
        task, model, attack, defense: as suites spell them.
        seed: of the cell.
        metrics: percent by name; None where a metric is undefined.
        implanted: whether the attack worked at all (the suite's gate).
        record: everything that is stored of the cell.
    """

    task: str
    model: str
    attack: str
    defense: str
    seed: int
    metrics: Mapping[str, float | None]
    implanted: bool | None
    record: Mapping[str, Any]

    def __getattr__(self, name: str) -> float | None:
        """Return a metric."""
        metrics = self.__dict__.get("metrics", {})
        if name not in metrics:
            raise AttributeError(f"an outcome has no {name!r}. Valid metrics: {', '.join(metrics)}.")
        return metrics[name]  # type: ignore[no-any-return]

    def __dir__(self) -> list[str]:
        """List the attributes with the metrics among them."""
        return [*super().__dir__(), *self.metrics]


def load_task(entry: Entry, **fields: Any) -> Task:
    """Return a task with its splits: ``load_task("reviews", max_train=400)``, ``load_task("local/mine")``."""
    return recipes.task_of(create_task(_with(entry, fields)))


def load_attack(entry: Entry, **fields: Any) -> Attack:
    """Return an attack, e.g. ``load_attack("badword", rate=0.05)``."""
    return create_attack(_with(entry, fields))


def load_defense(entry: Entry, **fields: Any) -> Defense:
    """Return a defense or a chain: ``load_defense("e-pur+fine-tuning", epochs=5)``; fields are the last part's."""
    return chain(_with(entry, fields))


def evaluate(
    attack: str | Attack,
    defense: str | Defense,
    *,
    task: Entry = "reviews",
    model: str = "embedded",
    seed: int = 0,
    target: int = 1,
    labels: int = 64,
    budget: Budget | None = None,
    measures: Sequence[Entry] = (),
    store: str | Path | None = None,
    device: str = "auto",
) -> Outcome:
    """Run one attack against one defense in this process; what is in the store is not done again.

    Args:
        attack: a spec or an attack.
        defense: a spec or a defense.
        task: a spec, or a mapping with ``name`` and fields.
        model: a pre-trained model.
        seed: of the cell.
        target: the target label.
        labels: clean labels that the defense may see, to tune and to choose on.
        budget: training of the victims.
        measures: what is measured beside the answers, such as ``noise``.
        store: its folder; by default ``DOORBENCH_STORE``, then the user's cache.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        RequestError: something is unknown or out of bounds, the combination makes no sense, or a job failed.
    """
    named = defense if isinstance(defense, str) else defense.spec
    data = {
        "name": "one",
        "description": "one attack against one defense",
        "task": task,
        "model": model,
        "attack": attack if isinstance(attack, str) else attack.spec,
        "defense": ["none", named],
        "seed": seed,
        "target": target,
        "labels": labels,
        "budget": budget or Budget(),
        "measures": list(measures),
    }
    outcomes = run_suite(data, store=store, device=device, engine="serial")
    if not outcomes:
        raise RequestError(f"{named} defends nothing; name a purification, a filter or a training defense.")
    return outcomes[0]


def run_suite(
    suite: str | Path | Mapping[str, Any] | Suite,
    *,
    settings: Sequence[str] = (),
    store: str | Path | None = None,
    workers: int | None = None,
    device: str = "auto",
    engine: Engine = "loky",
    yes: bool = False,
) -> list[Outcome]:
    """Run a suite and return what every defense of it achieved, in the order of its axes.

    Args:
        suite: a built-in name, the path of a YAML file, its fields, or a suite.
        settings: changes as on the command line, ``axis=a,b``; for names and paths.
        store: its folder.
        workers: processes.
        device: ``auto``, ``cpu`` or ``cuda``.
        engine: ``serial`` (this process), ``loky`` (processes) or ``dask``.
        yes: also a grid of more than a million cells.

    Raises:
        RequestError: the suite is wrong, or cells failed; names the first one.
    """
    plan = plan_of(_suite(suite, settings), yes=yes)
    place = ResultStore(None if store is None else Path(store))
    plan.check_models()
    runner.run(plan.jobs, store=place, execute=work.execute, workers=workers, device=device, engine=engine)
    for job in plan.jobs:
        if (error := place.error(job.key)) is not None:
            raise RequestError(f"{job.label} failed: {error}")
    return _outcomes(plan, place)


def records(
    suite: str | Path | Mapping[str, Any] | Suite,
    *,
    settings: Sequence[str] = (),
    store: str | Path | None = None,
    yes: bool = False,
) -> DataFrame:
    """Return one row for each cell of a suite that was run before, as ``doorbench export`` writes them.

    ``yes``: also of a grid of more than a million cells.
    """
    from bench import report
    from bench.session import Session

    plan = plan_of(_suite(suite, settings), yes=yes)
    session = Session(plan, ResultStore(None if store is None else Path(store), create=False))
    return report.frame(session.rows(), gate=plan.suite.gate)


def _with(entry: Entry, fields: Mapping[str, Any]) -> Entry:
    if not fields:
        return entry
    return {"name": entry, **fields} if isinstance(entry, str) else {**entry, **fields}


def _suite(suite: str | Path | Mapping[str, Any] | Suite, settings: Sequence[str]) -> Suite:
    if isinstance(suite, str | Path):
        return suites.load(str(suite), settings)
    if settings:
        raise RequestError("settings change a suite that is given by its name or path; change the fields instead.")
    return suite if isinstance(suite, Suite) else suites.check(suite, "the suite")


def _outcomes(plan: Plan, store: ResultStore) -> list[Outcome]:
    from bench import report
    from bench.experiment.metrics import MEASURED
    from bench.report.rows.frames import JOINED_ALL
    from bench.session import Session

    rows = Session(plan, store).rows()
    table = report.frame(rows, gate=plan.suite.gate).set_index("cell_key")
    outcomes = []
    for row in rows:
        if not row.listed or row.role != "defended" or row.record is None:
            continue
        if row.status == "n/a":
            raise RequestError(f"{row.attack} and {row.defense} on {row.task}: {row.error}.")
        numbers = table.loc[row.cell_key]
        implanted = None if _number(numbers["implanted"]) is None else bool(numbers["implanted"])
        fields: dict[str, Any] = {name: getattr(row, name) for name in ("task", "model", "attack", "defense", "seed")}
        metrics = {name: _number(numbers.get(name)) for name in (*MEASURED, *JOINED_ALL)}
        outcomes.append(Outcome(**fields, metrics=metrics, implanted=implanted, record=row.record.document()))
    return outcomes


def _number(value: Any) -> float | None:
    import pandas as pd

    return None if pd.isna(value) else float(value)
