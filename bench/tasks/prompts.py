"""Turns prompts with responses into a task: cuts to size and the fingerprint, as for tasks with labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from bench import seeds
from bench.contracts import GENERATION, Kind, Task, TaskSource
from bench.contracts.examples import Examples, stratified_order
from bench.contracts.task import GenerationFacts
from bench.keys import key_of

FORM = 1  # raised when a utility scores otherwise than before


class PromptFolder(TaskSource):
    """A task for models that write whose prompts and responses lie in a folder."""

    kinds: ClassVar[frozenset[Kind]] = GENERATION

    folder: str = Field(description="name of a folder inside DOORBENCH_DATA, or an absolute path")

    @property
    def called(self) -> str:
        """How tables call it."""
        return f"{self.name}/{Path(self.folder).name}"


def prompt_task(
    facts: GenerationFacts, splits: Mapping[str, Examples], *, max_train: int | None, max_test: int | None
) -> Task:
    """Return a task of the splits ``train``, ``validation`` and ``test``.

    A cut to size is stratified by group and depends on the names of task and split only; smaller cuts are parts of
    larger ones.
    """
    sizes = {"train": max_train, "validation": None, "test": max_test}
    parts = {name: _cut(splits[name], size, facts.name, name) for name, size in sizes.items()}
    content = {
        "form": FORM,
        "name": facts.name,
        "groups": list(facts.labels),
        "max_length": facts.max_length,
        "new_tokens": facts.new_tokens,
        "utility": facts.utility.name,
        "words": list(facts.words),
        "language": facts.language,
    }
    fingerprints = {name: examples.fingerprint() for name, examples in parts.items()}
    return Task(facts, **parts, fingerprint=key_of({"facts": content, **fingerprints}))


def _cut(examples: Examples, size: int | None, task: str, split: str) -> Examples:
    if size is None or size >= len(examples):
        return examples
    order = stratified_order(examples.labels, seeds.rng("task cut", task, split))[:size]
    return examples.take(sorted(order.tolist()))
