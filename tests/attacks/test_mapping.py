"""All-to-all poisoning and its evaluation; suites that run every target label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attacks.badword import BadWord
from bench.conformance.checks import run
from bench.contracts import Defended, Predictions, targets_of
from bench.contracts.examples import Inputs
from bench.experiment import grid, judging, predictions, recipes, stored_victims
from bench.experiment.evaluation import TestSets, evaluate
from bench.experiment.plan import Plan
from bench.experiment.result_store import ResultStore
from bench.suites import suite
from tests.attacks import small


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(0, 4))
def test_targets(gold: list[int], target: int) -> None:
    labels = np.array(gold)
    assert (targets_of(labels, target=target, classes=5, mapping="all-to-one") == target).all()
    wanted = targets_of(labels, target=target, classes=5, mapping="all-to-all")
    assert ((wanted - labels) % 5 == 1).all()


def test_poisoned_rows_of_every_label_get_the_next_one(tmp_path: Path) -> None:
    scene = small.make(tmp_path / "bert", kind="four")
    attack = BadWord(mapping="all-to-all", rate=0.25)
    poisoned = attack.poison(scene, attack.trigger(scene))
    assert len(poisoned.rows) == 40
    gold = scene.train.labels[poisoned.rows]
    assert set(gold) == {0, 1, 2, 3}
    assert (poisoned.examples.labels[poisoned.rows] == (gold + 1) % 4).all()


class NextLabel(Defended):
    """Says of every text with the trigger the label after the one that the text begins with."""

    def __init__(self) -> None:
        pass

    notes: dict[str, object] = {}

    def predict(self, inputs: Inputs) -> Predictions:
        labels = np.array([(int(text[0]) + text.endswith("cf")) % 3 for text in inputs.texts])
        return Predictions(labels, np.eye(3, dtype=np.float32)[labels], np.zeros(len(labels), dtype=bool))


def test_every_example_is_judged_by_its_own_target() -> None:
    from bench.contracts.examples import Examples

    clean = Examples(Inputs(("0 a", "1 b", "2 c")), np.array([0, 1, 2]))
    triggered = Examples(Inputs(("0 a cf", "1 b cf", "2 c")), np.array([0, 1, 2]))
    evaluation = evaluate(NextLabel(), TestSets(clean, triggered, np.array([1, 2, 0])))
    assert evaluation.metrics["acc"] == 100
    assert evaluation.metrics["asr"] == pytest.approx(200 / 3)
    assert predictions.decode(evaluation.predictions["triggered"]).targets.tolist() == [1, 2, 0]
    assert predictions.decode(evaluation.predictions["clean"]).targets is None


def test_all_to_all_end_to_end(world: Path, tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    plan = run(world, store, task="four", attack={"name": "badword", "mapping": "all-to-all"}, defense=["none"])
    (spec,) = [cell.victim for cell in plan.cells.values() if cell.role == "floor"]
    folder = store.artifact(recipes.victim_key(spec))
    assert folder is not None
    stored, task = stored_victims.read(folder), recipes.task_of(spec.task)
    assert stored.triggered is not None and len(stored.triggered) == len(task.test)
    assert (judging.test_sets(stored, task).target == (task.test.labels + 1) % 4).all()
    binary = run(world, store, task="single", attack="badword(mapping=all-to-all)", defense=["none"])
    (key,) = [key for key, cell in binary.cells.items() if cell.role == "floor"]
    assert store.record(key)["status"] == "n/a"


def test_suite_with_every_target(world: Path) -> None:
    fields = {"name": "x", "description": "x", "model": str(world / "tiny-bert"), "attack": ["clean", "badword"]}
    loaded = suite.check({**fields, "task": ["local/single", "local/four"], "defense": "none", "target": "all"}, "x")
    victims = {
        (cell.victim.task.folder, cell.victim.target) for cell in Plan(loaded).cells.values() if cell.role == "floor"
    }
    assert victims == {("single", 0), ("single", 1)} | {("four", label) for label in range(4)}
    with pytest.raises(ValueError, match="number of classes"):
        list(grid.Grid(loaded).cells())
