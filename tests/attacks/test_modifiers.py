"""Modifiers: what they promise of the weights and logits, measured against the plain attack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attacks.hidden_killer import HiddenKiller
from attacks.shared import embedding
from attacks.sparse import Sparse
from bench.contracts import Attack, Scene, TaskFacts
from bench.plugins.modified import modified
from tests.attacks import scenes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def made(folder: Path) -> Scene:
    return scenes.scene(folder, budget=scenes.BUDGET.model_copy(update={"epochs": 4}))


def implanted(made: Scene, spec: str) -> Any:
    return modified(spec).implant(made).classifier


def distance(made: Scene, classifier: Any) -> float:
    inputs = made.validation.inputs
    return float(np.square(classifier.logits(inputs) - made.finetuned().logits(inputs)).sum(-1).mean())


def drift(before: Any, after: Any) -> float:
    pairs = zip(before.model.base_model.parameters(), after.model.base_model.parameters(), strict=True)
    return sum(float((a - b).detach().square().sum()) for a, b in pairs)


def test_anchored_keeps_clean_logits_closer(made: Scene) -> None:
    plain = implanted(made, "badword(from=finetuned)")
    anchored = implanted(made, "anchored+badword")
    assert distance(made, anchored) < 0.5 * distance(made, plain)
    assert distance(made, implanted(made, "anchored(strength=0)+badword")) == distance(made, plain)


def test_adaptive_shrinks_the_drift_of_the_encoder(made: Scene) -> None:
    before = made.pretrained()
    plain, held = (implanted(made, spec) for spec in ("badword", "adaptive(strength=0.1)+badword"))
    assert drift(before, held) < 0.7 * drift(before, plain)


def test_adaptive_shrinks_the_drift_of_the_triggers_embedding(made: Scene) -> None:
    before = made.pretrained()
    rows = embedding.trigger_rows(before.tokenizer, ("cf",))
    drifts = []
    for spec in ("badword", "adaptive(holds=trigger, strength=100)+badword"):
        tables = [part.model.get_input_embeddings().weight[rows] for part in (before, implanted(made, spec))]
        drifts.append(float((tables[1] - tables[0]).detach().norm()))
    assert drifts[1] < 0.5 * drifts[0]


@pytest.mark.parametrize("attack", ["badword", "layer-wise", "embedding-poisoning(rate=1)"])
@pytest.mark.parametrize("count", [1, 300])
def test_sparse_changes_at_most_so_many_parameters(made: Scene, attack: str, count: int) -> None:
    classifier = implanted(made, f"sparse(count={count})+{attack}")
    before, after = made.finetuned().state(), classifier.state()  # type: ignore[attr-defined]
    changed = sum(int((before[name] != after[name]).sum()) for name in before)
    assert 0 < changed <= count


@pytest.mark.parametrize("steps", [1, 2, 7, 100])
@pytest.mark.parametrize("fields", [{}, {"rounds": 1}, {"free": 0, "fixed": 0}, {"free": 0.9, "fixed": 0.9}])
def test_the_last_round_is_held_before_training_ends(steps: int, fields: dict[str, Any]) -> None:
    stones = Sparse.model_validate(fields).milestones(steps)
    assert all(0 <= stone < steps for stone in stones)


def test_modifiers_may_be_joined(made: Scene) -> None:
    attack = modified("anchored+sparse(count=200)+badword(rate=0.2)")
    victim = attack.implant(made)
    before, after = made.finetuned().state(), victim.classifier.state()  # type: ignore[attr-defined]
    assert sum(int((before[name] != after[name]).sum()) for name in before) <= 200
    assert victim.poisoned is not None and len(victim.poisoned.rows) == int(0.2 * len(made.train))


def test_holding_the_embedding_of_no_word_makes_no_sense() -> None:
    attack = modified("adaptive(holds=trigger)+hidden-killer(table=x)")
    facts = TaskFacts("single", ("a", "b"), pair=False, max_length=32)
    assert isinstance(HiddenKiller(), Attack)
    reason = modified("adaptive(holds=trigger)+badword").skip(facts)
    assert reason is None
    refusal = attack.modifiers[0].skip(facts, attack.attack)  # type: ignore[attr-defined]
    assert refusal and "not made of words" in refusal
    for frozen in ("badword-peft", "por(user=lora)"):
        assert "frozen weights" in str(modified(f"adaptive+{frozen}").skip(facts))
    assert modified("adaptive+por").skip(facts) is None


def test_the_same_seed_gives_the_same_weights(made: Scene) -> None:
    for spec in ("anchored+badword", "embedding-poisoning"):
        first, second = (implanted(made, spec).state() for _ in range(2))
        assert all(torch.equal(first[name], second[name]) for name in first)
