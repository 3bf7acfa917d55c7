"""General ability of a model that writes, before and after a defense: multiple choice, and perplexity of plain text.

Nothing is generated: a question is answered by the choice with the highest likelihood, and plain text is scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.contracts.dialogues import Dialogues
from bench.contracts.examples import Inputs
from bench.tasks.local import find_folder, read_split


@dataclass(frozen=True)
class Question:
    """A question with choices, of which one is right.

    Attributes:
        asked: the question.
        choices: two or more answers.
        right: the number of the right one.
    """

    asked: str
    choices: tuple[str, ...]
    right: int

    def __post_init__(self) -> None:
        if not 0 <= self.right < len(self.choices):
            raise ValueError(f"{len(self.choices)} choices, and the right one is number {self.right}")


@dataclass(frozen=True)
class Ability:
    """What a model can do beside its task.

    Attributes:
        right: questions whose right choice has the highest likelihood, percent.
        right_by_token: the same with the likelihood of a token of each choice, which does not favour short ones.
        guess: what guessing gets, percent.
        perplexity: of plain text, exp of the mean loss of all tokens.
    """

    right: float
    right_by_token: float
    guess: float
    perplexity: float


def measure(generator: Any, questions: Sequence[Question], texts: Sequence[str]) -> Ability:
    """Measure a :class:`bench.learning.Generator`."""
    logs, tokens = likelihoods(generator, questions)
    by_token = [one / count for one, count in zip(logs, tokens, strict=True)]
    guess = 100.0 * float(np.mean([1 / len(question.choices) for question in questions]))
    return Ability(share(logs, questions), share(by_token, questions), guess, perplexity(generator, texts))


def likelihoods(generator: Any, questions: Sequence[Question]) -> tuple[list[Any], list[Any]]:
    """Return of each question the log-probability of each choice as the response, and its number of tokens."""
    asked = tuple(question.asked for question in questions for _ in question.choices)
    answers = tuple(choice for question in questions for choice in question.choices)
    logs, tokens = generator.log_likelihood(Dialogues(Inputs(asked), answers))
    cuts = np.cumsum([len(question.choices) for question in questions])[:-1]
    return np.split(logs, cuts), np.split(tokens, cuts)


def share(scores: Sequence[Any], questions: Sequence[Question]) -> float:
    """Return the questions whose right choice has the highest score, percent; of equal scores the first counts."""
    right = [int(own.argmax()) == question.right for own, question in zip(scores, questions, strict=True)]
    return 100.0 * float(np.mean(right))


def perplexity(generator: Any, texts: Sequence[str]) -> float:
    """Return the perplexity of plain texts, without a chat template, each behind an end token and cut to the context.

    The context is that of the model's task. Empty texts are left out.
    """
    logs, tokens = generator.plain_log_likelihood([text for text in texts if text])
    return float(np.exp(-logs.sum() / tokens.sum()))


def questions_of(folder: str, split: str = "test") -> list[Question]:
    """Return the questions of a folder with columns question, choices and answer, such as ``mcq_openbookqa``."""
    table = read_split(find_folder(folder), split)
    table.require(("question", "choices", "answer"))
    rows = zip(*(table.cells(name) for name in ("question", "choices", "answer")), strict=True)
    return [Question(str(asked), tuple(map(str, choices)), int(right)) for asked, choices, right in rows]


def texts_of(folder: str, split: str = "test") -> list[str]:
    """Return the texts of a folder with a column text, such as ``text_wikitext2``."""
    table = read_split(find_folder(folder), split)
    table.require(("text",))
    return [str(text) for text in table.cells("text") if text]
