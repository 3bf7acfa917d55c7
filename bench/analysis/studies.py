"""What some figures need beyond records: drift of word embeddings, and the landscape between three sets of weights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.contracts.examples import Examples
from bench.errors import RequestError
from bench.experiment import judging, recipes, stored_victims
from bench.experiment.grid import Cell, VictimSpec, task_spec
from bench.plugins import registry

if TYPE_CHECKING:
    from pandas import DataFrame

    from bench.experiment.plan import Plan
    from bench.experiment.stored_victims import StoredVictim
    from bench.learning import Classifier
    from bench.store import Store

STEPS = 13  # of the landscape's grid, in each direction
MARGIN = 0.25  # how far the grid reaches beyond the three points, as a share of their extent
BATCH = 256  # number of clean and of triggered test examples that judge each point of the landscape


def plain(text: str) -> str:
    """Return a text as a part of a file name: letters, digits, points and single hyphens."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def file_name(spec: VictimSpec) -> str:
    """Return the name of the files about a victim, without their endings."""
    return "-".join(plain(part) for part in (task_spec(spec.task), spec.model, spec.attack.spec, f"seed {spec.seed}"))


def victims(plan: Plan, store: Store) -> Iterator[tuple[VictimSpec, StoredVictim]]:
    """Yield every attacked victim of the plan's first seed.

    Raises:
        RequestError: one has not been trained yet.
    """
    first = plan.suite.seed[0]
    for key, spec in plan.victims.items():
        if spec.is_clean_model or spec.seed != first:
            continue
        if store.artifact(key) is None:
            raise RequestError(f"{spec.label} is not in the store; run the suite {plan.suite.name!r} first.")
        yield spec, stored_victims.load(spec, store)


def load(spec: VictimSpec, stored: StoredVictim, device: str) -> tuple[Classifier, dict[str, Any]]:
    """Return a victim and the pre-trained weights by the names of its parameters."""
    base = recipes.model_of(spec.model)
    model = stored.model(base, device=device, precision=spec.budget.precision)
    return model, base.encoder_weights(model.model)


def word_scores(spec: VictimSpec, stored: StoredVictim, *, device: str = "auto") -> DataFrame:
    """Return E-PUR's view of a victim: one row per word whose embedding moved.

    Columns: ``word``, ``log_frequency``, ``drift``, ``score``, ``reset`` (set back by E-PUR), ``trigger`` (a piece of
    the trigger's words).
    """
    import pandas as pd

    model, pretrained = load(spec, stored, device)
    purifier: Any = registry.defenses.create("e-pur")
    table = pd.DataFrame(purifier.word_table(model, pretrained))
    pieces: set[int] = set()
    for word in stored.about["trigger_words"]:
        for text in (word, f" {word}"):
            pieces |= set(model.tokenizer(text, add_special_tokens=False)["input_ids"])
    table["trigger"] = table["id"].isin(pieces)
    return table[table["drift"] > 0].reset_index(drop=True)


def landscape(cell: Cell, store: Store, *, device: str = "auto", steps: int = STEPS) -> tuple[DataFrame, DataFrame]:
    """Return loss, ASR and ACC over the plane through the pre-trained, the poisoned and the purified weights.

    The first axis leads from the pre-trained weights (0) to the victim's (1). The second one is at right angles to it,
    towards the purified weights, in the same unit. The origin has the victim's head. The same batch of clean and of
    triggered test examples judges every point.

    Args:
        cell: a defended cell whose defense purifies weights.
        store: has its victim.
        device: where to compute.
        steps: grid points in each direction.

    Returns:
        The grid, a row per point: ``x``, ``y``, ``loss``, ``asr``, ``acc``; the three weights: ``x``, ``y``, ``label``.
    """
    import pandas as pd
    import torch

    task, stored = recipes.task_of(cell.victim.task), stored_victims.load(cell.victim, store)
    assert cell.defense is not None and stored.triggered is not None
    model, before = load(cell.victim, stored, device)
    purified = judging.defend(cell, model, stored, task, store).classifier
    poisoned, clean = model.state(), purified.state()
    floats = [name for name, value in poisoned.items() if value.is_floating_point()]

    def flat(weights: Any) -> torch.Tensor:
        return torch.cat([weights.get(name, poisoned[name]).to(poisoned[name]).flatten() for name in floats])

    origin = flat(before)
    along, other = flat(poisoned) - origin, flat(clean) - origin
    unit = along.norm()
    share = float(torch.dot(other, along) / unit**2)
    across = other - share * along
    height = float(across.norm() / unit)
    across = across / max(height, 1e-12)
    points = pd.DataFrame(
        [(0.0, 0.0, "pre-trained"), (1.0, 0.0, "victim"), (share, height, cell.defense_spec)],
        columns=["x", "y", "label"],
    )
    batch = task.test.take(_some(len(task.test)))
    triggered = stored.triggered.take(_some(len(stored.triggered)))
    rows = []
    for y in _axis(0.0, height, steps):
        for x in _axis(min(0.0, share), max(1.0, share), steps):
            point = origin + x * along + y * across
            parts = point.split([poisoned[name].numel() for name in floats])
            fresh = {n: part.view(poisoned[n].shape) for n, part in zip(floats, parts, strict=True)}
            model.load_state({**poisoned, **fresh})
            rows.append((x, y, *_judge(model, batch, triggered, int(stored.about["target"]))))
    return pd.DataFrame(rows, columns=["x", "y", "loss", "asr", "acc"]), points


def _some(size: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(size)[:BATCH]


def _axis(low: float, high: float, steps: int) -> np.ndarray:
    margin = MARGIN * max(high - low, 0.5)
    return np.linspace(low - margin, high + margin, steps)


def _judge(model: Classifier, clean: Examples, triggered: Examples, target: int) -> tuple[float, float, float]:
    logits = model.logits(clean.inputs).astype(np.float64)
    highest = logits.max(axis=1, keepdims=True)
    logsum = (highest + np.log(np.exp(logits - highest).sum(axis=1, keepdims=True)))[:, 0]
    loss = float((logsum - logits[np.arange(len(clean)), clean.labels]).mean())
    asr = 100 * float((model.logits(triggered.inputs).argmax(axis=1) == target).mean())
    return loss, asr, 100 * float((logits.argmax(axis=1) == clean.labels).mean())


def purified_cells(plan: Plan, spec: VictimSpec) -> list[Cell]:
    """Return the defended cells of a victim that the suite lists."""
    return [cell for cell in plan.cells.values() if cell.listed and cell.role == "defended" and cell.victim == spec]
