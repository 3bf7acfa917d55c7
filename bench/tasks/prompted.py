"""Classification tasks as prompts that are answered with a label word."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, field_validator

from bench.contracts import GENERATION, GenerationFacts, Kind, Task, TaskSource
from bench.contracts.examples import Examples, Inputs
from bench.errors import RequestError
from bench.plugins.registry import create_task
from bench.tasks.prompts import prompt_task
from bench.tasks.utilities import ExactMatch


class Prompted(TaskSource):
    """A classification task as a prompt; the right response is the word of the label.

    The system text asks for one of the words, and holds the first segment of a pair. What the user says is the text, or
    the second segment, so that a trigger goes where it goes in a classifier.
    """

    name: ClassVar[str] = "prompted"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = GENERATION

    task: str = Field(description="a classification task, as a suite spells it")
    words: tuple[str, ...] | None = Field(None, description="a word for each label; the names of labels by default")
    new_tokens: int = Field(16, ge=2, le=64, description="most tokens of a response")

    @field_validator("words")
    @classmethod
    def _distinct(cls, words: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if words is not None and (len(set(words)) < len(words) or not all(word.strip() == word for word in words)):
            raise ValueError("label words differ from each other and have no white space around them")
        return words

    @property
    def called(self) -> str:
        """How tables call it."""
        return f"{self.name}/{self.task}"

    def load(self) -> Task:
        """Load the classification task and put its texts into prompts."""
        source = create_task(self.task)
        task = source.model_copy(update={"max_train": self.max_train, "max_test": self.max_test}).load()
        if task.facts.kind != Kind.CLASSIFICATION:
            raise RequestError(f"task {self.called}: {self.task} is no classification task.")
        words = self.words or task.facts.labels
        if len(words) != len(task.facts.labels):
            raise RequestError(
                f"task {self.called}: {len(words)} word{'s' * (len(words) != 1)} for {len(task.facts.labels)} labels."
            )
        facts = GenerationFacts(
            self.called, task.facts.labels, True, self.max_length, ExactMatch(), self.new_tokens, tuple(words)
        )
        splits = {"train": task.train, "validation": task.validation, "test": task.test}
        prompts = {name: prompt(examples, tuple(words)) for name, examples in splits.items()}
        return prompt_task(facts, prompts, max_train=None, max_test=None)


def prompt(examples: Examples, words: tuple[str, ...]) -> Examples:
    """Return examples as prompts with label words as responses."""
    asked = f"Is the {'pair' if examples.inputs.pairs else 'text'} {_listed(words)}? Answer with this word only."
    first = [f"{asked}\n\n{text}" for text in examples.inputs.texts]
    systems = tuple(first) if examples.inputs.pairs else (asked,) * len(examples)
    responses = tuple(words[label] for label in examples.labels)
    return Examples(Inputs(systems, examples.inputs.carrier), examples.labels, responses)


def _listed(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
