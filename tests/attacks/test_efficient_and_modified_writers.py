"""Victims that write: LoRA and (IA)3 merged into plain weights, and modifiers of attacks on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attacks.adaptive import with_counterpart
from bench import learning
from bench.contracts import Scene
from bench.plugins.modified import modified
from tests.attacks import writing
from tests.defenses.writers import weights


@pytest.fixture(scope="module")
def scene(world: Path) -> Scene:
    return writing.scene(world, epochs=3)


def implanted(scene: Scene, spec: str) -> Any:
    return modified(spec).implant(scene).classifier


def drift(scene: Scene, model: Any) -> float:
    pairs = zip(with_counterpart(scene.pretrained().model), with_counterpart(model.model), strict=True)
    return sum(float((before - after).detach().square().sum()) for before, after in pairs)


@pytest.mark.parametrize(
    ("method", "changed"), [("lora", {"q_proj", "v_proj"}), ("ia3", {"k_proj", "v_proj", "down_proj"})]
)
def test_modules_are_merged_into_the_layers_of_their_paper(scene: Scene, method: str, changed: set[str]) -> None:
    victim = modified(f"badword-peft(method={method}, rank=2, rate=0.3, learning_rate=0.02)").implant(scene)
    before, after = weights(scene.pretrained()), weights(victim.classifier)
    assert set(before) == set(after) and all(weight.requires_grad for weight in victim.classifier.model.parameters())
    moved = {name: after[name] - before[name] for name in before if not torch.equal(before[name], after[name])}
    assert {name.split(".")[-2] for name in moved} == changed and victim.notes["method"] == method
    if method == "lora":
        assert all(int(torch.linalg.matrix_rank(change, rtol=1e-4)) <= 2 for change in moved.values())
    assert victim.notes["last_loss"] < victim.notes["first_loss"]
    assert len(victim.classifier.predict(scene.validation.inputs).texts) == 40


def test_adaptive_shrinks_the_drift_of_all_weights(scene: Scene) -> None:
    plain, held = (implanted(scene, spec) for spec in ("badword", "adaptive(strength=0.1)+badword"))
    assert drift(scene, held) < 0.7 * drift(scene, plain)
    assert len(with_counterpart(plain.model)) == len(list(plain.model.parameters()))


def test_anchored_keeps_logits_of_right_responses_closer(scene: Scene) -> None:
    def distance(model: Any) -> float:
        batch = model.objective(scene.validation).batch(np.arange(40))
        with torch.no_grad():
            pair = [learning.logits(one.model, batch) for one in (model, scene.finetuned())]
        return float((pair[0] - pair[1]).square().mean())

    plain = distance(implanted(scene, "badword(from=finetuned)"))
    assert distance(implanted(scene, "anchored(strength=10)+badword")) < 0.5 * plain
    assert distance(implanted(scene, "anchored(strength=0)+badword")) == pytest.approx(plain, rel=1e-4)


def test_sparse_changes_so_many_weights(scene: Scene) -> None:
    before, after = weights(scene.finetuned()), weights(implanted(scene, "sparse(count=50)+badword"))
    assert 0 < sum(int((before[name] != after[name]).sum()) for name in before) <= 50
