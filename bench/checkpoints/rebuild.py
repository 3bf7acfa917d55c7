"""``doorbench rebuild``: the model behind a record, made again from its recipe and written as a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from bench import runner
from bench._version import __version__
from bench.checkpoints import folder
from bench.checkpoints.suspect import MARK
from bench.contracts import Defended, Kind
from bench.errors import RequestError
from bench.experiment import from_recipe, judging, recipes, stored_victims
from bench.experiment.metrics import MEASURED
from bench.experiment.plan import started_from
from bench.experiment.result_store import ResultStore
from bench.experiment.victims import build_victim
from bench.report.rows import records
from bench.report.rows.row import Row

if TYPE_CHECKING:
    from bench.experiment.grid import Cell
    from bench.experiment.record import VictimRecipe

REPORT = "rebuilt.json"


@dataclass(frozen=True)
class Rebuilt:
    """What came out.

    Attributes:
        label: of the cell.
        folder: with the model.
        stated: SHA-256 of the weights in the record; None where it names none.
        weights: SHA-256 of the weights here.
        metrics: by name what the record states and what came out here, in percent.
    """

    label: str
    folder: str
    stated: str | None
    weights: str
    metrics: Mapping[str, tuple[float | None, float | None]]

    @property
    def same(self) -> bool | None:
        """Whether these are the weights of the record; None where it names none."""
        return None if self.stated is None else self.stated == self.weights


def rebuild(
    place: Path, key: str, *, out: Path | None = None, model: str | None = None, device: str = "auto"
) -> Rebuilt:
    """Make the model of a record again: a victim, the clean model, or what a defense left of a victim.

    Args:
        place: folder with records, as ``results/`` holds it.
        key: of the record, or its first digits.
        out: folder to write; by default ``rebuilt-<first digits of the key>`` here.
        model: the pre-trained model, where the record names a folder that has another place here.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        RequestError: there is no such record, its data, model or plugins are not here or are others, or no model is
            behind it.
    """
    row = _row(place, key)
    assert row.record is not None
    cell = from_recipe.cell_of(row.record.recipe)
    if model is not None:
        cell = replace(cell, victim=replace(cell.victim, model=model))
    _check_same(cell, row.record.recipe.victim)
    target = out or Path(f"rebuilt-{row.cell_key[:12]}")
    with folder.fresh(target) as made, TemporaryDirectory(dir=made.parent) as scratch:
        store = ResultStore(Path(scratch) / "store")
        defended, weights, metrics = _make(cell, store, runner.Worker(device=device))
        if weights is None:
            raise RequestError(f"{cell.label}: its defense leaves no weights; only victims and purified models do.")
        stated = {"defended": row.defended_weights, "victim": row.victim_weights}.get(cell.role)
        pairs = {name: (row.metric(name), metrics.get(name)) for name, metric in MEASURED.items() if metric.core}
        known = {name: pair for name, pair in pairs.items() if pair != (None, None)}
        rebuilt = Rebuilt(cell.label, str(target), stated, weights, known)
        _write(made, defended, cell, row, rebuilt)
    return rebuilt


def _row(place: Path, key: str) -> Row:
    rows = [row for part in records.folders_of(place) for row in records.load(part)]
    chosen = {row.cell_key: row for row in rows if row.cell_key.startswith(key)}
    if not key or len(chosen) != 1:
        many = f"{len(chosen)} records in {place} have keys that start with {key!r}"
        raise RequestError(f"{many}; the model zoo of the site and `doorbench export {place}` list the keys.")
    (row,) = chosen.values()
    if not row.predicts:
        raise RequestError(f"record {key}: it is {row.status}, and no model is behind it.")
    return row


def _check_same(cell: Cell, recipe: VictimRecipe) -> None:
    """Refuse a pre-trained model or data that are not those of the record, before anything is trained on them."""
    pretrained = recipes.model_of(cell.victim.model)
    if (weights := pretrained.weight_hash) != recipe.model.weights:
        raise RequestError(
            f"model {pretrained.name!r} is not the one of the record: its weights hash to {weights[:12]}, those of "
            f"{recipe.model.name} in the record to {recipe.model.weights[:12]}; say --model with its folder."
        )
    task = recipes.task_of(cell.victim.task)
    if task.fingerprint != recipe.task.fingerprint:
        raise RequestError(
            f"the data of {task.facts.name} are not those of the record: their fingerprint is "
            f"{task.fingerprint[:12]}, in the record {recipe.task.fingerprint[:12]}; put the same files there."
        )


def _make(
    cell: Cell, store: ResultStore, worker: runner.Worker
) -> tuple[Defended, str | None, Mapping[str, float | None]]:
    """Return the model of a cell, the digest of its weights and its metrics."""
    wanted = cell.victim.clean_model if cell.role == "floor" else cell.victim
    specs = [wanted, cell.victim, *cell.others.values()]
    for spec in dict.fromkeys(need for one in specs for need in (*started_from(one), one)):
        build_victim(spec, store, worker)
    task = recipes.task_of(cell.victim.task)
    stored = stored_victims.load(cell.victim, store)
    options = {"device": worker.device, "precision": cell.victim.budget.precision}
    model = stored_victims.load(wanted, store).model(recipes.model_of(wanted.model), **options)
    if cell.defense is None:
        defended = Defended(model)
        weights = stored_victims.weights_digest(store.artifact_hashes(recipes.victim_key(wanted)))
    else:
        defended = judging.defend(cell, model, stored, task, store)
        left = judging.weights_left(defended)
        return defended, left, judging.evaluated(defended, stored, task).metrics
    return defended, weights, judging.evaluated(defended, stored, task).metrics


def _write(out: Path, defended: Defended, cell: Cell, row: Row, rebuilt: Rebuilt) -> None:
    model, facts = defended.classifier.model, recipes.task_of(cell.victim.task).facts
    config = model.config
    if facts.kind == Kind.CLASSIFICATION:
        config.id2label = dict(enumerate(facts.labels))
        config.label2id = {label: number for number, label in enumerate(facts.labels)}
    config.architectures = [type(model).__name__]
    if not cell.victim.is_clean_model and cell.role != "floor":
        warning = "a backdoor was implanted on purpose; never deploy this model"
        setattr(config, MARK, {"attack": row.attack, "task": row.task, "warning": warning})
    config.save_pretrained(out)
    folder.write_weights(out, model, {})
    defended.classifier.tokenizer.save_pretrained(out)
    assert row.record is not None
    report = {**asdict(rebuilt), "record": row.cell_key, "version": __version__, "recipe": row.record.recipe.document()}
    folder.write_json(out / REPORT, report)
