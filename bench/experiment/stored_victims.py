"""A poisoned model in the store: weights, trigger, triggered test set and what was poisoned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from bench.contracts import Attack, Kind, Poisoned, Target, Task, Trigger, Victim
from bench.contracts.examples import Examples, Inputs, IntArray, join
from bench.experiment import recipes
from bench.experiment.grid import VictimSpec
from bench.experiment.kinds import KINDS
from bench.keys import key_of
from bench.models import compact
from bench.plugins import registry

if TYPE_CHECKING:
    from bench.models.pretrained import PretrainedModel
    from bench.store import Store

WEIGHTS, ABOUT, TRIGGERED, POISON = "weights", "victim.json", "triggered.parquet", "poison.parquet"


@dataclass(frozen=True)
class StoredVictim:
    """A victim as it comes out of the store.

    Attributes:
        folder: where its weights are.
        about: trigger, target, notes and seconds, as JSON values.
        triggered: triggered test examples with their gold labels; None for the clean model.
        poison: the poisoned training examples, and which rows of the training set they replace or follow.
        sources: int64 [n triggered]: the rows of the test set that the triggered examples were made from.
    """

    folder: Path
    about: Mapping[str, Any]
    triggered: Examples | None
    poison: Poisoned | None
    sources: IntArray | None = None

    def training_set(self, task: Task) -> Examples:
        """Return the suspicious training set: the task's own with the poisoned rows put in."""
        return task.train if self.poison is None else placed(task.train, self.poison)

    @property
    def kind(self) -> Kind:
        """What kind of model it is; victims from before there were kinds are classifiers."""
        return Kind(self.about.get("kind", Kind.CLASSIFICATION))

    @property
    def target(self) -> Target:
        """The target label, or the payload."""
        target = self.about["target"]
        if isinstance(target, dict):
            return registry.payloads.get(target["name"])(**target["parameters"])
        return int(target)

    def trigger(self) -> Trigger | None:
        """Return the trigger; None for the clean model, and where it cannot be made again from its fields."""
        if self.about["trigger_kind"] is None:
            return None
        return registry.triggers()[self.about["trigger_kind"]].model_validate(self.about["trigger_fields"])

    def model(self, pretrained: PretrainedModel, **options: Any) -> Any:
        """Load the weights into a model of its kind; ``options`` are its device and precision."""
        folder = self.folder / WEIGHTS
        return KINDS[self.kind].stored(folder, pretrained, weights=compact.reader(folder, pretrained), **options)


def placed(train: Examples, poison: Poisoned) -> Examples:
    """Return the training set with poisoned rows: rows beyond its end are appended, the others replaced."""
    inside = poison.rows < len(train)
    changed = train.put(poison.rows[inside], poison.examples.take(np.flatnonzero(inside)))
    return changed if inside.all() else join(changed, poison.examples.take(np.flatnonzero(~inside)))


def load(spec: VictimSpec, store: Store) -> StoredVictim:
    """Read a victim that the plan has trained before.

    Raises:
        RuntimeError: it is not in the store.
    """
    folder = store.artifact(recipes.victim_key(spec))
    if folder is None:
        raise RuntimeError(f"the victim {spec.label} is not in the store")
    return read(folder)


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


def write(
    folder: Path,
    victim: Victim,
    *,
    attack: Attack,
    kind: Kind,
    pretrained: PretrainedModel,
    triggered: tuple[Examples, IntArray] | None,
    seconds: float,
) -> None:
    """Write everything that later cells need.

    Args:
        folder: where it goes.
        victim: what the attack has left behind.
        attack: the attack.
        kind: what kind of model it is.
        pretrained: the model that it was trained from.
        triggered: the triggered test examples and the rows of the test set that they were made from, if there are any.
        seconds: that the training took.
    """
    victim.classifier.save(folder / WEIGHTS)
    compact.compact(folder / WEIGHTS, victim.classifier.model, pretrained)
    about = {
        "attack": attack.spec,
        "trigger": None if victim.trigger is None else victim.trigger.describe(),
        "trigger_kind": None if victim.trigger is None else kind_of(victim.trigger),
        "trigger_fields": None if victim.trigger is None else victim.trigger.model_dump(mode="json"),
        "trigger_words": [] if victim.trigger is None else list(victim.trigger.words),
        "kind": kind.value,
        "target": recipes.target_recipe(victim.target),
        "mapping": victim.mapping,
        "notes": dict(victim.notes),
        "seconds": seconds,
    }
    (folder / ABOUT).write_text(json.dumps(about, indent=1, sort_keys=True), encoding="utf-8")
    if triggered is not None:
        examples, rows = triggered
        write_examples(folder / TRIGGERED, examples, row=rows)
    if victim.poisoned is not None and len(victim.poisoned.rows):
        rows = victim.poisoned.rows
        write_examples(folder / POISON, victim.poisoned.examples.take(rows), row=rows)


def kind_of(trigger: Trigger) -> str | None:
    """Return the name of a trigger's class if it can be made again from its fields, else None."""
    try:
        again = type(trigger).model_validate(trigger.model_dump(mode="json"))
    except ValidationError:
        return None
    return type(trigger).__name__ if again == trigger else None


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
    if examples.responses is not None:
        columns["response"] = list(examples.responses)
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
    responses = tuple(table["response"].to_pylist()) if "response" in table.column_names else None
    examples = Examples(Inputs(tuple(table["text"].to_pylist()), pairs), table["label"].to_numpy(), responses)
    return examples, table["row"].to_numpy() if "row" in table.column_names else None
