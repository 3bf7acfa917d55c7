"""General ability of a model that writes, before and after a defense: multiple choice, and perplexity of plain text.

Nothing is generated: a question is answered by the choice with the highest likelihood, and plain text is scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.contracts import GENERATION, Defended, Kind, Task
from bench.contracts.dialogues import Dialogues
from bench.contracts.examples import Inputs
from bench.contracts.measure import Measure
from bench.tasks.local import find_folder, read_split, split_file

SPLIT = "test"
READER = "measure ability"


class Ability(Measure):
    """What a model that writes can do beside its task: multiple choice by likelihood, and plain text.

    As language models are commonly compared (Mihaylov et al. 2018, OpenBookQA; Merity et al. 2017, WikiText-2). A
    question is answered by the choice with the highest likelihood as the response to it; ``right per token`` takes the
    likelihood of a token of each choice, which does not favour short ones. Plain text has no chat template, each text
    stands behind an end token. Texts and questions have the same room on every task.

    Deviations: the first questions and texts are taken instead of all. It is asked of the weights alone: what a filter
    does to inputs or while a response is written has no part in it.
    """

    name: ClassVar[str] = "ability"
    version: ClassVar[int] = 1
    citation: ClassVar[str] = (
        "Mihaylov et al., EMNLP 2018, arXiv 1809.02789; Merity et al., ICLR 2017, arXiv 1609.07843"
    )
    kinds: ClassVar[frozenset[Kind]] = GENERATION

    questions: str = Field("mcq_openbookqa", description="folder with columns question, choices and answer")
    texts: str = Field("text_wikitext2", description="folder with a column text")
    first: int = Field(100, ge=1, description="how many questions and how many texts are taken")
    room: int = Field(512, ge=32, description="tokens of a text, and of a question with an answer, kept at most")

    def files(self) -> tuple[Path, ...]:
        """Return the files of questions and of texts."""
        return tuple(split_file(find_folder(folder, of=READER), SPLIT) for folder in (self.questions, self.texts))

    def outcomes(self, defended: Defended, task: Task) -> Mapping[str, NDArray[np.float32]]:
        """Return whether each question is answered right, and of each text the loss of a token.

        The mean of the losses is that of all tokens: each text is weighted by its number of tokens.
        """
        generator = self.reader(defended.classifier)
        questions, texts = questions_of(self.questions)[: self.first], texts_of(self.texts)[: self.first]
        logs, tokens = likelihoods(generator, questions)
        by_token = [one / count for one, count in zip(logs, tokens, strict=True)]
        return {
            "ability: right": right(logs, questions),
            "ability: right per token": right(by_token, questions),
            "ability: loss": losses(generator, texts),
        }

    def reader(self, generator: Any) -> Any:
        """Return a generator with the same weights and room for what is asked, a quarter of it for the answer."""
        from bench.learning import Generator

        context = getattr(generator.model.config, "max_position_embeddings", None) or self.room
        room = min(int(context), self.room)
        return Generator(
            generator.model,
            generator.tokenizer,
            generator.template,
            max_prompt=room - room // 4,
            max_response=room // 4,
            device=generator.device,
            precision=generator.precision,
        )


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


def likelihoods(generator: Any, questions: Sequence[Question]) -> tuple[list[Any], list[Any]]:
    """Return of each question the log-probability of each choice as the response, and its number of tokens."""
    asked = tuple(question.asked for question in questions for _ in question.choices)
    answers = tuple(choice for question in questions for choice in question.choices)
    logs, tokens = generator.log_likelihood(Dialogues(Inputs(asked), answers))
    cuts = np.cumsum([len(question.choices) for question in questions])[:-1]
    return np.split(logs, cuts), np.split(tokens, cuts)


def right(scores: Sequence[Any], questions: Sequence[Question]) -> NDArray[np.float32]:
    """Return [n]: 1 where the right choice has the highest score, else 0; of equal scores the first counts."""
    hits = [int(own.argmax()) == question.right for own, question in zip(scores, questions, strict=True)]
    return np.array(hits, dtype=np.float32)


def losses(generator: Any, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return [n]: minus the log-probability of each text, in units of the mean number of tokens of a text.

    Without a chat template, each behind an end token and cut to the generator's room.
    """
    logs, tokens = generator.plain_log_likelihood(texts)
    weighted: NDArray[np.float32] = (-logs / tokens.mean()).astype(np.float32)
    return weighted


def questions_of(folder: str) -> list[Question]:
    """Return the questions of a folder with columns question, choices and answer, such as ``mcq_openbookqa``."""
    table = read_split(find_folder(folder, of=READER), SPLIT)
    table.require(("question", "choices", "answer"))
    rows = zip(*(table.cells(name) for name in ("question", "choices", "answer")), strict=True)
    return [Question(str(asked), tuple(map(str, choices)), int(right)) for asked, choices, right in rows]


def texts_of(folder: str) -> list[str]:
    """Return the texts of a folder with a column text, such as ``text_wikitext2``; empty ones are left out."""
    table = read_split(find_folder(folder, of=READER), SPLIT)
    table.require(("text",))
    return [str(text) for text in table.cells("text") if text]
