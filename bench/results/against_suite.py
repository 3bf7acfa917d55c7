"""Records against what can be found out about their cells here: the suite's grid, the data, and what makes no sense."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from bench.contracts import Attack, Needs
from bench.errors import RequestError
from bench.experiment import recipes
from bench.experiment.from_recipe import cell_of, outline, outline_of_cell
from bench.experiment.grid import Cell, Grid
from bench.experiment.record import PackedPredictions, Record
from bench.experiment.record_files import Problem, RecordFile
from bench.experiment.skips import skip_reason
from bench.models.pretrained import create
from bench.plugins.chain import needs_of
from bench.plugins.modified import Modified
from bench.suites.suite import Suite

SHOWN = 3  # cells named in a line
MOST_CELLS = 1_000_000
VARIED = 64  # characters of packed probabilities; where there are fewer, two models may well agree in all of them


@dataclass
class Against:
    """Compares records one by one, then all of them with the grid.

    Attributes:
        suite: that the records should be of; None where it is not known.
        notes: what could not be compared, and why.
    """

    suite: Suite | None
    notes: set[str] = field(default_factory=set)
    _seen: dict[str, Problem] = field(default_factory=dict)  # by outline: what to say of a record of no cell
    _classes: dict[str, int] = field(default_factory=dict)  # by name of a task
    _predictions: dict[bytes, tuple[str, int]] = field(default_factory=dict)
    _weights: dict[str, str] = field(default_factory=dict)  # by model

    def problems(self, entry: RecordFile) -> Iterator[Problem]:
        """Yield what is wrong with a record that is right in itself and of this version."""
        record = entry.record
        stranger = Problem(entry.file, record.key, "recipe", "is of no cell of the suite")
        self._seen.setdefault(outline(record.recipe.document()), stranger)
        if record.predictions is not None and isinstance(record.predictions.clean, PackedPredictions):
            self._classes[record.recipe.victim.task.name] = record.predictions.clean.classes
        faults = [*self._of_other_data(record), *self._senseless(record), *self._copied(entry)]
        yield from (Problem(entry.file, record.key, *one) for one in faults)

    def strangers(self) -> list[Problem]:
        """Return the records that are of no cell of the suite."""
        return [] if not self.grid else [problem for name, problem in self._seen.items() if name not in self.grid]

    def missing(self) -> str:
        """Say which cells of the suite have no record; empty where all have one, or the suite is not known."""
        lacking = [cell.label for name, cell in self.grid.items() if name not in self._seen]
        if not lacking:
            return ""
        return f"{len(lacking)} of {len(self.grid)} cells of the suite have no record: {'; '.join(lacking[:SHOWN])}" + (
            "; ..." if len(lacking) > SHOWN else ""
        )

    @cached_property
    def grid(self) -> dict[str, Cell]:
        """The cells of the suite by their outlines; empty where the suite is not known."""
        if self.suite is None:
            self.notes.add("no suite.yaml is beside the records; name their suite with --suite to see what is missing")
            return {}
        grid = Grid(self.suite, lambda source: self._classes.get(source.name, 0))
        if grid.size > MOST_CELLS:
            self.notes.add(f"the suite has {grid.size:,} cells, too many to see what is missing")
            return {}
        return {outline_of_cell(cell): cell for cell in grid.cells()}

    def _of_other_data(self, record: Record) -> Iterator[tuple[str, str]]:
        """Compare the fingerprints of data and weights with those here, where both are here."""
        victim, name = record.recipe.victim, record.cell.model
        try:
            data = recipes.task_of(cell_of(record.recipe).victim.task).fingerprint
            if data != (stated := victim.task.fingerprint):
                yield "recipe.victim.task.fingerprint", f"is {stated[:12]}; the data here have {data[:12]}"
        except RequestError as error:
            self.notes.add(f"the data of {record.cell.task} are not compared: {error}")
        try:
            if name not in self._weights:
                self._weights[name] = create(self._here(name)).fingerprint()["weights"]
            if self._weights[name] != victim.model.weights:
                fault = f"are {victim.model.weights[:12]}; the model here has {self._weights[name][:12]}"
                yield "recipe.victim.model.weights", fault
        except RequestError as error:
            self.notes.add(f"the model {name} is not compared: {error}")

    def _here(self, model: str) -> str:
        """Return how the suite spells a model; records name a local one by its folder alone."""
        spelled = self.suite.model if self.suite is not None and model.startswith("local/") else ()
        return next((one for one in spelled if Path(one).name == Path(model).name), model)

    def _senseless(self, record: Record) -> Iterator[tuple[str, str]]:
        """Find out whether a cell that is n/a makes no sense, for the reason that it gives, and the others do."""
        try:
            cell = cell_of(record.recipe)
            reason = skip_reason(cell)
        except RequestError as error:
            if record.status == "n/a":
                self.notes.add(f"whether cells on {record.cell.task} make sense is not known here: {error}")
            return
        if record.status == "done":
            if reason is not None:
                yield "status", f"is done, although {reason}"
        elif record.error != (reason or _without_training_set(cell)):
            yield "error", f"is {str(record.error)[:80]!r}, but {reason or 'the combination makes sense'}"

    def _copied(self, entry: RecordFile) -> Iterator[tuple[str, str]]:
        """Notice the predictions of another seed, which no two models share."""
        record = entry.record
        clean = None if record.predictions is None else record.predictions.clean
        if not isinstance(clean, PackedPredictions) or len(packed := clean.probabilities) < VARIED:
            return
        digest, seed = hashlib.sha256(packed.encode()).digest(), record.cell.seed
        first, known = self._predictions.setdefault(digest, (entry.file, seed))
        if known != seed:
            yield "predictions.clean", f"are those of {first}, which has the seed {known}"


def _without_training_set(cell: Cell) -> str | None:
    """Return the reason of a defense that trains where the attacker may keep the training set."""
    attack = cell.victim.attack.attack if isinstance(cell.victim.attack, Modified) else cell.victim.attack
    keeps = type(attack).implant is not Attack.implant  # otherwise it poisons the set that the defender gets
    if cell.defense is None or not keeps or Needs.TRAINING_SET not in needs_of(cell.defense):
        return None
    return f"{cell.victim.attack.name} leaves no poisoned training set"
