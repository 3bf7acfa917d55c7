"""Suite to cells: which victims are needed and what is done to each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import product
from math import prod
from typing import Any

from bench.contracts import Attack, Budget, Defense, Detector, Measure, Needs, Other, Target, TaskSource
from bench.contracts.kind import in_words
from bench.errors import RequestError
from bench.experiment.roles import SPELLINGS, Role
from bench.plugins import registry
from bench.plugins.chain import chain, needs_of
from bench.plugins.modified import Modified, modified
from bench.plugins.registry import create_task as create_task
from bench.suites import specs
from bench.suites.suite import Entry, Suite

CLEAN = "clean"  # the attack that trains the clean model
NO_SAMPLES = (0, 0.0)  # a defense without clean data does not depend on their number


@dataclass(frozen=True)
class VictimSpec:
    """One poisoned model: everything that decides its weights, except the data and the pre-trained weights."""

    task: TaskSource
    model: str
    attack: Attack
    seed: int
    target: Target
    budget: Budget
    part: tuple[int, int] | None = None  # trained on the i-th of n disjoint parts of the training set
    head: int | None = None  # the seed that its head is initialised from; its own seed if None

    def __hash__(self) -> int:
        """Return the hash of all fields, computed once: every cell looks its victim up."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(tuple(getattr(self, field.name) for field in fields(self)))

    @property
    def is_clean_model(self) -> bool:
        """Whether this is the clean model."""
        return self.attack.name == CLEAN

    @cached_property
    def clean_model(self) -> VictimSpec:
        """The clean model of the same task, pre-trained model, seed, budget and part of the training set."""
        return replace(self, attack=registry.attacks.create(CLEAN), target=0)

    def other(self, wanted: Other) -> VictimSpec:
        """A model of the same task, pre-trained model, target and budget that somebody else trained."""
        attack = create_attack(wanted.attack)
        head = self.seed if wanted.same_head else None
        spec = replace(self, attack=attack, seed=self.seed + wanted.shift, part=wanted.part, head=head)
        return spec.clean_model if spec.is_clean_model else spec

    @cached_property
    def label(self) -> str:
        """Words for people."""
        part = f" (part {self.part[0] + 1} of {self.part[1]})" if self.part else ""
        return f"{self.attack.spec} on {task_spec(self.task)}{part}, {self.model}, seed {self.seed}"


@dataclass(frozen=True)
class Cell:
    """One evaluation.

    Attributes:
        victim: the model that is judged or defended.
        role: ``defended``; ``detected``: a detector gives a score; ``victim``: no defense; ``floor``: the clean model
            on the victim's triggered test set.
        defense: None unless the role is ``defended`` or ``detected``.
        labels: clean labels that the defense may see; 0 for one that reads none.
        tolerance: points of accuracy that the selection rule may give up.
        listed: whether the suite asks for this cell; the others are floors and ceilings that every table needs.
        measures: what is measured of the model beside its answers; nothing where a detector judges it.
    """

    victim: VictimSpec
    role: Role
    defense: Defense | None
    labels: int
    tolerance: float
    listed: bool
    measures: tuple[Measure, ...] = ()

    @property
    def defense_spec(self) -> str:
        """The defense as a suite spells it."""
        return SPELLINGS.get(self.role) or (self.defense.spec if self.defense else "")

    @property
    def wants_others(self) -> bool:
        """Whether the defense wants any models of others."""
        return self.defense is not None and bool(self.defense.wanted)

    @cached_property
    def others(self) -> dict[Other, VictimSpec]:
        """The models of others that the defense wants."""
        return {wanted: self.victim.other(wanted) for wanted in (self.defense.wanted if self.defense else ())}

    @property
    def label(self) -> str:
        """Words for people."""
        return f"{self.victim.label} | {self.defense_spec}"


def task_spec(source: TaskSource) -> str:
    """Return how tables call a task: ``local/<folder>`` for local files, else its name."""
    return source.called


def create_attack(entry: Entry) -> Attack:
    """Build an attack, with its modifiers if it has any."""
    attack = modified(entry)
    if isinstance(attack, Modified) and attack.attack.name == CLEAN:
        raise RequestError(f"{attack.spec!r}: {CLEAN!r} implants nothing that could be modified; name an attack.")
    return attack


def uses_clean(defense: Defense) -> bool:
    """Whether a defense reads clean examples."""
    return Needs.CLEAN in needs_of(defense)


def swept(entry: Entry) -> Iterator[Entry]:
    """Spread ``{name: ..., sweep: {field: [values]}}`` into one entry for each combination of values.

    ``sweep: full`` of a defense stands for every value that its selection rule would try.
    """
    if isinstance(entry, str) or "sweep" not in entry:
        yield entry
        return
    fixed = {key: value for key, value in entry.items() if key != "sweep"}
    axes = _axes(entry)
    for values in product(*axes.values()):
        yield {**fixed, **dict(zip(axes, values, strict=True))}


def _axes(entry: Mapping[str, Any]) -> Mapping[str, Sequence[Any]]:
    """Return the values of every swept field of an entry."""
    axes = entry["sweep"]
    if axes == "full":
        last = registry.defenses.get(specs.split_top(str(entry.get("name")), "+")[-1])
        axes = {last.candidates[0]: last.candidates[1]} if last.candidates else {}
    good = isinstance(axes, Mapping) and axes and all(isinstance(v, list | tuple) and v for v in axes.values())
    if not good:
        form = "sweep is {field: [values]}, or full for a defense that searches"
        raise RequestError(f"{entry.get('name')}: {form}.")
    return axes  # type: ignore[no-any-return]


def _cut_at_comma(before: Entry, entry: Entry) -> str:
    """Return how to write a folder with a comma in its name, where two entries may be the halves of one."""
    if not (isinstance(before, str) and before.startswith(specs.LOCAL) and isinstance(entry, str)):
        return ""
    folder = f"{before.removeprefix(specs.LOCAL)},{entry}"
    return "" if entry.startswith(specs.LOCAL) else f" A folder called {folder!r} is written {specs.local(folder)}."


def _count(entries: Sequence[Entry]) -> int:
    """Return how many entries there are with every sweep spread, without spreading them."""
    swept = (entry for entry in entries if not isinstance(entry, str) and "sweep" in entry)
    return sum(prod(len(values) for values in _axes(entry).values()) - 1 for entry in swept) + len(entries)


@dataclass(frozen=True)
class Grid:
    """The cells of a suite, floors and ceilings included.

    Attributes:
        suite: what to run.
        classes: says how many labels a task has; needed where the suite asks for every target label.
    """

    suite: Suite
    classes: Callable[[TaskSource], int] | None = None

    def targets(self, task: TaskSource) -> list[Target]:
        """Return the target labels, or the payloads, that a task is run with."""
        if self.suite.target != "all":
            return [one if isinstance(one, int) else registry.payloads.create(one) for one in self.suite.target]
        if self.classes is None:
            raise ValueError("the suite asks for every target label, so the grid needs the number of classes")
        return list(range(self.classes(task)))

    @property
    def size(self) -> int:
        """How many cells the axes ask for: every target of a task counts once where the suite asks for all of them."""
        suite = self.suite
        targets = 1 if suite.target == "all" else len(suite.target)
        victims = _count(suite.task) * len(suite.model) * len(suite.seed) * targets * _count(suite.attack)
        return victims * (1 + _count(suite.defense) * len(suite.labels))

    @cached_property
    def seeds(self) -> dict[TaskSource, list[int]]:
        """The tasks of the suite, each with its seeds; an entry with ``seeds: n`` has the first n of the suite's."""
        seeds: dict[TaskSource, list[int]] = {}
        for raw, before in zip(self.suite.task, ["", *self.suite.task], strict=False):
            for entry in swept(raw):
                fields = {} if isinstance(entry, str) else {k: v for k, v in entry.items() if k != "seeds"}
                count = None if isinstance(entry, str) else entry.get("seeds")
                if count is not None and not (isinstance(count, int) and count > 0):
                    raise RequestError(f"task {fields.get('name')}: seeds = {count!r} is not a number of seeds.")
                try:
                    task = create_task(fields or entry)
                except RequestError as error:
                    raise RequestError(f"{error}{_cut_at_comma(before, entry)}") from None
                seeds[task] = self.suite.seed[:count]
        kinds = {kind: task_spec(task) for task in seeds for kind in task.kinds}
        if len(kinds) > 1:
            pairs = ", ".join(f"{kind} ({task})" for kind, task in kinds.items())
            raise RequestError(f"suite {self.suite.name}: its tasks are for several kinds of model: {pairs}; split it.")
        return seeds

    @property
    def tasks(self) -> list[TaskSource]:
        """The tasks of the suite."""
        return list(self.seeds)

    @cached_property
    def attacks(self) -> list[Attack]:
        """The attacks of the suite."""
        return [create_attack(entry) for raw in self.suite.attack for entry in swept(raw)]

    @cached_property
    def defenses(self) -> list[Defense | None]:
        """The defenses of the suite; None stands for ``none``."""
        return [None if entry == "none" else chain(entry) for raw in self.suite.defense for entry in swept(raw)]

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """What the suite measures of every model, each once."""
        made = tuple(dict.fromkeys(map(registry.measures.create, self.suite.measures)))
        for measure in made:
            for task in self.tasks:
                if not measure.kinds & task.kinds:
                    kinds = f"{in_words(measure.kinds)}; {task_spec(task)} is a task for {in_words(task.kinds)}"
                    raise RequestError(f"suite {self.suite.name}: the measure {measure.name} is for {kinds}.")
        return made

    def cells(self) -> Iterator[Cell]:
        """Yield every cell in the order of the axes; floors and ceilings may come more than once."""
        measures = self.measures
        for cell in self._cells():
            yield cell if not measures or cell.role == "detected" else replace(cell, measures=measures)

    def _cells(self) -> Iterator[Cell]:
        suite = self.suite
        lines = [(size, one) for size, one in product(suite.labels, self.defenses) if one is not None]
        wanted = [(defense, *self._samples(defense, size), isinstance(defense, Detector)) for size, defense in lines]
        undefended = None in self.defenses
        places = [(task, target) for task in self.tasks for target in self.targets(task)]
        axes = product(places, suite.model, suite.seed, self.attacks)
        for (task, target), model, seed, attack in axes:
            if seed not in self.seeds[task]:
                continue
            victim = VictimSpec(task, model, attack, seed, target, suite.budget)
            if victim.is_clean_model:
                victim = victim.clean_model
            else:
                yield Cell(victim.clean_model, "victim", None, *NO_SAMPLES, False)
                yield Cell(victim, "floor", None, *NO_SAMPLES, False)
            yield Cell(victim, "victim", None, *NO_SAMPLES, undefended)
            for defense, labels, tolerance, detects in wanted:
                if detects:  # its AUROC needs the clean model as well
                    yield Cell(victim.clean_model, "detected", defense, labels, tolerance, True)
                    yield Cell(victim, "detected", defense, labels, tolerance, True)
                else:
                    yield Cell(victim, "defended", defense, labels, tolerance, True)
        yield from self._more_clean()

    def _samples(self, defense: Defense, labels: int) -> tuple[int, float]:
        return (labels, self.suite.tolerance) if uses_clean(defense) else NO_SAMPLES

    def _more_clean(self) -> Iterator[Cell]:
        suite, clean = self.suite, registry.attacks.create(CLEAN)
        detectors = [defense for defense in self.defenses if isinstance(defense, Detector)]
        for task, model, seed, size, detector in product(
            self.tasks, suite.model, suite.clean_seeds, suite.labels, detectors
        ):
            victim = VictimSpec(task, model, clean, seed, 0, suite.budget)
            yield Cell(victim, "victim", None, *NO_SAMPLES, False)
            yield Cell(victim, "detected", detector, *self._samples(detector, size), True)
