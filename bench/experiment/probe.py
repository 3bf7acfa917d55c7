"""How fast this machine trains: a few seconds of a suite's own training, before a run."""

from __future__ import annotations

import time
from collections.abc import Iterable
from statistics import mean
from typing import Any

from bench import seeds
from bench.experiment import recipes
from bench.experiment.grid import VictimSpec
from bench.experiment.kinds import model_kind
from bench.experiment.victims import training_task

SECONDS = 2.5  # of training, after a first batch that is not counted unless it takes as long
MOST = 4  # pairs of a model and a task that are tried; the others count as their mean


def seconds_per_example(victims: Iterable[VictimSpec], *, device: str, threads: int) -> float:
    """Return how long training an example takes, as a mean over the models and tasks of some victims.

    Args:
        victims: of a suite.
        device: to train on.
        threads: of the processor.
    """
    pairs = {(spec.model, spec.task.called): spec for spec in victims}
    tried = list(pairs.values())[:: -(-len(pairs) // MOST)]
    return mean(_seconds_of_one(spec, device, threads) for spec in tried)


def _seconds_of_one(spec: VictimSpec, device: str, threads: int) -> float:
    import torch

    from bench import learning

    torch.set_num_threads(threads)
    task, budget = training_task(spec), spec.budget
    kind, options = model_kind(task.facts), {"device": learning.device(device), "precision": budget.precision}
    model: Any = kind.fresh(recipes.model_of(spec.model), task.facts, head=0, **options)
    few, more = (task.train.take(range(min(n * budget.batch_size, len(task.train)))) for n in (1, 4))
    settings = {**budget.model_dump(), "epochs": 1, "seed": seeds.derive("probe", task.facts.name, spec.seed)}
    began = time.perf_counter()
    learning.train(model, few, **settings)
    if (first := time.perf_counter() - began) > SECONDS:  # a slow machine: what a first batch costs more is little
        return first / len(few)
    began, trained = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        learning.train(model, more, **settings)
        trained += len(more)
    return (time.perf_counter() - began) / trained
