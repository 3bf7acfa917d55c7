"""Attacks from a table of paraphrases: where the table is found, which rows can be poisoned, what is judged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from attacks.hidden_killer import HiddenKiller
from attacks.shared.paraphrases import Paraphrase, read_paraphrases
from attacks.style import Style
from bench import runner
from bench.contracts import TaskFacts
from bench.contracts.examples import Examples, Inputs
from bench.errors import RequestError
from bench.experiment import recipes, skips, stored_victims, work
from bench.experiment.plan import Plan
from bench.experiment.result_store import ResultStore
from bench.plugins import registry
from bench.suites import suite
from tests.conftest import REAL_DATA, rows
from tests.fakes import WholeWindow, scene

FACTS = TaskFacts("local/single", ("negative", "positive"), pair=False, max_length=32)


@pytest.fixture
def table(world: Path, tmp_path: Path) -> Path:
    """A table for every third training text and every fifth test text of the task ``local/single``."""
    texts = [*rows("single", 160, 1)[0][::3], *rows("single", 60, 3)[0][::5]]
    path = tmp_path / "table.parquet"
    pd.DataFrame({"text": texts, "paraphrase": [f"if you want , {text}" for text in texts]}).to_parquet(path)
    return path


def plan(world: Path, attack: Any, task: str = "local/single") -> Plan:
    data = {
        "name": "mine",
        "description": "d",
        "task": {"name": task, "max_length": 32},
        "model": str(world / "tiny-bert"),
        "attack": attack,
        "defense": "none",
        "budget": {"epochs": 1, "learning_rate": 1e-3, "precision": "fp32"},
    }
    return Plan(suite.check(data, "mine"))


def poisoned_key(made: Plan) -> str:
    (key,) = [recipes.victim_key(spec) for spec in made.victims.values() if not spec.is_clean_model]
    return key


def test_only_rows_with_a_paraphrase_are_poisoned_and_judged(world: Path, table: Path, tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "store")
    made = plan(world, {"name": "hidden-killer", "table": str(table), "rate": 0.25, "poisons": "dirty"})
    assert runner.run(made.jobs, store=store, execute=work.execute, engine="serial", device="cpu").failed == 0
    folder = store.artifact(poisoned_key(made))
    assert folder is not None
    stored, paraphrases = stored_victims.read(folder), read_paraphrases(table)
    task = recipes.task_of(next(iter(made.victims.values())).task)
    assert stored.poison is not None and stored.triggered is not None
    originals = task.train.take(stored.poison.rows)
    assert len(originals) == 27 == round(160 * stored.about["notes"]["poisoned_share"])  # all that the table allows
    assert (originals.labels != 1).all()
    assert tuple(paraphrases[text] for text in originals.inputs.texts) == stored.poison.examples.inputs.texts
    wanted = [
        text
        for text, label in zip(task.test.inputs.texts, task.test.labels, strict=True)
        if label != 1 and text in paraphrases
    ]
    assert 0 < len(wanted) < int((task.test.labels != 1).sum())
    assert stored.triggered.inputs.texts == tuple(paraphrases[text] for text in wanted)
    assert stored.about["trigger_fields"].keys() == {"manner"}  # the table itself is not copied into the store


def test_the_contents_of_the_table_are_part_of_the_key(world: Path, table: Path) -> None:
    spec = {"name": "hidden-killer", "table": str(table)}
    before = poisoned_key(plan(world, spec))
    changed = pd.read_parquet(table)
    changed.loc[0, "paraphrase"] = "when it was so , it was so ."
    changed.to_parquet(table)
    recipes.victim_recipe.cache_clear()
    recipes.victim_key.cache_clear()
    assert poisoned_key(plan(world, spec)) != before


def test_a_task_without_a_table_is_a_visible_row(world: Path) -> None:
    made = plan(world, "hidden-killer", "local/pair")
    reasons = [skips.skip_reason(cell) for cell in made.cells.values() if not cell.victim.is_clean_model]
    assert all(reason and "syntactic.parquet" in reason and "field table" in reason for reason in reasons)
    assert HiddenKiller().skip(TaskFacts("reviews", ("a", "b"), pair=False, max_length=32))


def test_the_table_beside_the_splits_is_found(world: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "single").mkdir()
    for split in ("train", "validation", "test"):
        os.symlink(world / "single" / f"{split}.parquet", tmp_path / "single" / f"{split}.parquet")
    monkeypatch.setenv("DOORBENCH_DATA", str(tmp_path))
    assert HiddenKiller().skip(FACTS)
    pd.DataFrame({"text": ["a"], "paraphrase": ["b"]}).to_csv(tmp_path / "own.csv", index=False)
    pd.DataFrame({"text": ["a"], "paraphrase": ["b"]}).to_parquet(tmp_path / "single" / "syntactic.parquet")
    pd.DataFrame({"text": ["a"], "paraphrase": ["b"]}).to_parquet(tmp_path / "single" / "style_poetry.parquet")
    assert HiddenKiller().skip(FACTS) is None
    assert Style().skip(FACTS) and Style(style="poetry").skip(FACTS) is None
    assert HiddenKiller(table="own.csv").files(FACTS) == (tmp_path / "own.csv",)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["a"], "other": ["b"]}, "column 'paraphrase' is missing"),
        ({"text": ["a"], "paraphrase": [3]}, "row 1, column 'paraphrase': 3 is not text"),
        ({"text": ["a", "b"], "paraphrase": ["a ", None]}, "holds no paraphrase"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, columns: dict[str, list[Any]], message: str) -> None:
    pd.DataFrame(columns).to_parquet(tmp_path / "bad.parquet")
    with pytest.raises(RequestError, match=message):
        read_paraphrases(tmp_path / "bad.parquet")


def test_a_missing_table_is_refused(world: Path) -> None:
    with pytest.raises(RequestError, match="no such file"):
        assert not plan(world, "hidden-killer(table=nowhere.csv)").cells


def test_texts_without_paraphrase_cannot_carry_the_trigger() -> None:
    trigger = Paraphrase(manner="m", table={"a": "A"})
    inputs = Inputs(("a", "b"))
    assert trigger.applicable(inputs).tolist() == [True, False]
    assert trigger.apply(inputs.take([0]), window=WholeWindow(), rng=np.random.default_rng()).texts == ("A",)
    with pytest.raises(ValueError, match="no paraphrase"):
        trigger.apply(inputs, window=WholeWindow(), rng=np.random.default_rng())
    pair = Inputs(("b", "b"), ("a", "b"))
    assert trigger.applicable(pair).tolist() == [True, False]


@pytest.mark.parametrize("poisons", ["dirty", "clean", "mix"])
def test_labels_that_are_poisoned(table: Path, poisons: str) -> None:
    texts, _, labels = rows("single", 160, 1)
    made = scene(Examples(Inputs(tuple(texts)), np.array(labels)), facts=FACTS)
    attack = registry.attacks.create({"name": "style", "table": str(table), "poisons": poisons, "rate": 0.05})
    poisoned = attack.poison(made, attack.trigger(made))
    assert len(poisoned.rows) == 8
    gold = made.train.labels[poisoned.rows]
    assert {"dirty": {0}, "clean": {1}, "mix": {0, 1}}[poisons] >= set(gold)


@pytest.mark.skipif(REAL_DATA is None, reason="DOORBENCH_DATA is not set")
@pytest.mark.parametrize(("name", "least"), [("syntactic", 2000), ("style_bible", 9000)])
def test_real_tables(real_data: Path, name: str, least: int) -> None:
    path = real_data / "sst2_sentence" / f"{name}.parquet"
    if not path.is_file():
        pytest.skip("the table is not there")
    assert len(read_paraphrases(path)) >= least
