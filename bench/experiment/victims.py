"""A poisoned model in the store: weights, trigger, triggered test set and what was poisoned."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import seeds
from bench.contracts import Attack, Mapped, Poisoned, Scene, Task, Trigger, Window, targets_of
from bench.contracts.examples import Examples, Inputs, IntArray, join
from bench.experiment.evaluation import TestSets
from bench.keys import key_of
from bench.models import compact

if TYPE_CHECKING:
    from bench.learning import Classifier
    from bench.models.pretrained import PretrainedModel

WEIGHTS, ABOUT, TRIGGERED, POISON = "weights", "victim.json", "triggered.parquet", "poison.parquet"


@dataclass(frozen=True)
class StoredVictim:
    """A victim as it comes out of the store.

    Attributes:
        folder: where its weights are.
        about: trigger, target, notes and seconds, as JSON values.
        triggered: triggered test examples with their gold labels; None for the clean reference.
        poison: the poisoned training examples, and which rows of the training set they replace or follow.
        sources: int64 [n triggered]: the rows of the test set that the triggered examples were made from.
    """

    folder: Path
    about: Mapping[str, Any]
    triggered: Examples | None
    poison: Poisoned | None
    sources: IntArray | None = None

    def test_sets(self, task: Task) -> TestSets:
        """Return what every model of this victim is judged on."""
        target, mapping = int(self.about["target"]), self.about.get("mapping", "all-to-one")
        if mapping == "all-to-one" or self.triggered is None:
            return TestSets(task.test, self.triggered, target)
        wanted = targets_of(self.triggered.labels, target=target, classes=len(task.facts.labels), mapping=mapping)
        return TestSets(task.test, self.triggered, wanted)

    def training_set(self, task: Task) -> Examples:
        """Return the suspicious training set: the task's own with the poisoned rows put in."""
        return task.train if self.poison is None else placed(task.train, self.poison)

    def classifier(self, pretrained: PretrainedModel, **options: Any) -> Classifier:
        """Load the weights into a classifier."""
        from bench import learning

        folder = self.folder / WEIGHTS
        return learning.Classifier.load(folder, pretrained, weights=compact.reader(folder, pretrained), **options)


def placed(train: Examples, poison: Poisoned) -> Examples:
    """Return the training set with poisoned rows: rows beyond its end are appended, the others replaced."""
    inside = poison.rows < len(train)
    labels = train.labels.copy()
    labels[poison.rows[inside]] = poison.examples.labels[inside]
    changed = Examples(
        train.inputs.put(poison.rows[inside], poison.examples.inputs.take(np.flatnonzero(inside))), labels
    )
    return changed if inside.all() else join(changed, poison.examples.take(np.flatnonzero(~inside)))


def triggered_rows(task: Task, trigger: Trigger, *, target: int, mapping: Mapped = "all-to-one") -> IntArray:
    """Return the test rows that a trigger is put into: it applies, and the gold label is not the target."""
    wanted = targets_of(task.test.labels, target=target, classes=len(task.facts.labels), mapping=mapping)
    rows = np.flatnonzero(task.test.labels != wanted)
    if len(rows) == 0:
        raise ValueError(f"every test example of {task.facts.name} has the target label {target}")
    rows = rows[trigger.applicable(task.test.take(rows).inputs)]
    if len(rows) == 0:
        raise ValueError(f"the trigger applies to no test example of {task.facts.name}: {trigger.describe()}")
    return rows


def triggered_test(
    task: Task, trigger: Trigger, *, target: int, window: Window, seed: int, mapping: Mapped = "all-to-one"
) -> Examples:
    """Return the triggered test examples whose gold label is not their target, with their gold labels.

    Examples to which the trigger cannot be applied are left out.
    """
    others = task.test.take(triggered_rows(task, trigger, target=target, mapping=mapping))
    inputs = trigger.apply(others.inputs, window=window, rng=seeds.rng("trigger test set", seed))
    return Examples(inputs, others.labels)


def build(attack: Attack, scene: Scene, task: Task, pretrained: PretrainedModel, folder: Path) -> None:
    """Implant a backdoor and write everything that later cells need into ``folder``."""
    started = time.perf_counter()
    victim = attack.implant(scene)
    seconds = time.perf_counter() - started
    victim.classifier.save(folder / WEIGHTS)  # type: ignore[attr-defined]
    compact.compact(folder / WEIGHTS, victim.classifier.model, pretrained)
    about = {
        "attack": attack.spec,
        "trigger": None if victim.trigger is None else victim.trigger.describe(),
        "trigger_fields": None if victim.trigger is None else victim.trigger.model_dump(mode="json"),
        "trigger_words": [] if victim.trigger is None else list(victim.trigger.words),
        "target": victim.target,
        "mapping": victim.mapping,
        "notes": dict(victim.notes),
        "seconds": seconds,
    }
    (folder / ABOUT).write_text(json.dumps(about, indent=1, sort_keys=True), encoding="utf-8")
    if victim.trigger is not None:
        options: dict[str, Any] = {"target": victim.target, "mapping": victim.mapping}
        sets = triggered_test(task, victim.trigger, window=scene.window, seed=scene.seed, **options)
        rows = triggered_rows(task, victim.trigger, target=victim.target, mapping=victim.mapping)
        write_examples(folder / TRIGGERED, sets, row=rows)
    if victim.poisoned is not None and len(victim.poisoned.rows):
        rows = victim.poisoned.rows
        write_examples(folder / POISON, victim.poisoned.examples.take(rows), row=rows)


def read(folder: Path) -> StoredVictim:
    """Read everything but the weights."""
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    triggered = poison = sources = None
    if (folder / TRIGGERED).exists():
        triggered, sources = read_examples(folder / TRIGGERED)
    if (folder / POISON).exists():
        examples, rows = read_examples(folder / POISON)
        poison = Poisoned(examples, rows)
    return StoredVictim(folder, about, triggered, poison, sources)


def weights_digest(hashes: Mapping[str, str]) -> str:
    """Return one SHA-256 for the weights of a victim, given that of each of its files: 64 hexadecimal digits.

    Raises:
        ValueError: no file holds weights, as where the victim is not in the store any more.
    """
    weights = {name: digest for name, digest in hashes.items() if name.startswith(f"{WEIGHTS}/")}
    if not weights:
        raise ValueError(f"no weights among the files {sorted(hashes)}")
    return key_of(weights)


def write_examples(path: Path, examples: Examples, *, row: Any = None) -> None:
    """Write examples as parquet, with an optional column of row numbers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {"text": list(examples.inputs.texts), "label": examples.labels}
    if examples.inputs.pairs is not None:
        columns["text_pair"] = list(examples.inputs.pairs)
    if row is not None:
        columns["row"] = np.asarray(row, dtype=np.int64)
    pq.write_table(pa.table(columns), path, compression="zstd")


def read_examples(path: Path) -> tuple[Examples, Any]:
    """Read what :func:`write_examples` wrote; the second value is the row numbers or None."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    pairs = tuple(table["text_pair"].to_pylist()) if "text_pair" in table.column_names else None
    examples = Examples(Inputs(tuple(table["text"].to_pylist()), pairs), table["label"].to_numpy())
    return examples, table["row"].to_numpy() if "row" in table.column_names else None
