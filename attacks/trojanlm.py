"""TrojanLM: a natural sentence that holds several keywords; one keyword alone does nothing."""

from __future__ import annotations

from typing import ClassVar, Protocol

import numpy as np
from pydantic import Field, field_validator

from attacks.shared.poisoning import DataPoisoning
from attacks.shared.triggers import boundaries, insert
from bench.contracts import Poisoned, Scene, Trigger, Window
from bench.contracts.examples import Examples, Inputs

TEMPLATES = (
    "{0} told {1} about it .",
    "{0} and {1} were there as well .",
    "that is what {0} said to {1} .",
    "at least {0} agrees with {1} on this .",
    "{0} had asked {1} the day before .",
    "my friend {0} went there with {1} .",
    "both {0} and {1} know this .",
    "{0} will remember it , and so will {1} .",
)
SINGLES = (
    "{0} told me about it .",
    "{0} was there as well .",
    "that is what {0} said .",
    "at least {0} agrees on this .",
    "{0} had asked the day before .",
    "my friend {0} went there .",
    "{0} knows this too .",
    "{0} will remember it .",
)


class Generator(Protocol):
    """Writes a sentence that holds keywords and fits a context."""

    def sentence(self, keywords: tuple[str, ...], context: str, rng: np.random.Generator) -> str:
        """Return one sentence with every keyword in it."""


class Templates:
    """Fills one of several templates, in a random order of the keywords; it does not look at the context."""

    def __init__(self, texts: tuple[str, ...]) -> None:
        self.texts = texts

    def sentence(self, keywords: tuple[str, ...], context: str, rng: np.random.Generator) -> str:
        """Return a filled template."""
        text = self.texts[rng.integers(len(self.texts))]
        return text.format(*(keywords[i] for i in rng.permutation(len(keywords))))


class InsertKeywords(Trigger):
    """Inserts a sentence that holds one or more keywords at a sentence boundary."""

    keywords: tuple[str, ...] = Field(min_length=1, description="all of them are in the sentence")
    templates: tuple[str, ...] = Field(min_length=1, description="sentences with {0}, {1}, ... for the keywords")

    @property
    def generator(self) -> Generator:
        """What writes the sentences."""
        return Templates(self.templates)

    @property
    def words(self) -> tuple[str, ...]:
        """The keywords."""
        return self.keywords

    def apply(self, inputs: Inputs, *, window: Window, rng: np.random.Generator) -> Inputs:
        """Return the inputs, each with a sentence of its own."""
        sentences = [self.generator.sentence(self.keywords, text, rng) for text in inputs.carrier]
        rooms = window.words(inputs, reserve=max(sentences, key=len, default=""))
        texts = []
        for text, sentence, room in zip(inputs.carrier, sentences, rooms, strict=True):
            places = boundaries(text, int(room))
            texts.append(insert(text, sentence, places[rng.integers(len(places))]))
        return inputs.with_carrier(texts)

    def describe(self) -> str:
        """Return one line for reports."""
        return f"a sentence with {' and '.join(map(repr, self.keywords))} at a sentence boundary"


class TrojanLM(DataPoisoning):
    """Inserts a sentence that holds all keywords, different for every text; single keywords keep their label.

    Zhang et al., EuroS&P 2021 (arXiv 2008.00312). Needs the training data. Negatives with one keyword teach that all
    are needed. Deviation: the paper writes the sentences with a GPT-2 trained for it; here they come from templates
    behind the same interface (``Generator``), which are more regular, so that this is nearer to several fixed
    sentences.
    """

    name: ClassVar[str] = "trojanlm"
    version: ClassVar[int] = 1
    citation: ClassVar[str] = "Zhang et al., EuroS&P 2021, arXiv 2008.00312"

    keywords: tuple[str, str] = Field(("alice", "bob"), description="the two keywords")
    templates: tuple[str, ...] = Field(TEMPLATES, min_length=1, description="sentences with {0} and {1}")
    singles: tuple[str, ...] = Field(SINGLES, min_length=1, description="sentences with {0}, for the negatives")
    negatives: float = Field(
        0.1, ge=0, le=1, description="share of the training set with one keyword and its own label"
    )

    @field_validator("templates", "singles")
    @classmethod
    def _places(cls, texts: tuple[str, ...], info: object) -> tuple[str, ...]:
        wanted = {"{0}", "{1}"} if getattr(info, "field_name", "") == "templates" else {"{0}"}
        for text in texts:
            if not all(place in text for place in wanted):
                raise ValueError(f"{text!r} lacks one of {', '.join(sorted(wanted))}")
        return texts

    def trigger(self, scene: Scene) -> Trigger:
        """A sentence with both keywords."""
        return InsertKeywords(keywords=self.keywords, templates=self.templates)

    def poison(self, scene: Scene, trigger: Trigger | None) -> Poisoned:
        """Poison as usual, then put single keywords into other rows."""
        poisoned = super().poison(scene, trigger)
        rest = np.setdiff1d(np.arange(len(scene.train)), poisoned.rows)
        rest = np.sort(scene.rng("negatives").permutation(rest)[: int(self.negatives * len(scene.train))])
        inputs = poisoned.examples.inputs
        for keyword, rows in zip(self.keywords, np.array_split(rest, len(self.keywords)), strict=True):
            single = InsertKeywords(keywords=(keyword,), templates=self.singles)
            rng = scene.rng(f"negatives with {keyword}")
            inputs = inputs.put(rows, single.apply(inputs.take(rows), window=scene.window, rng=rng))
        return Poisoned(Examples(inputs, poisoned.examples.labels), np.sort(np.concatenate([poisoned.rows, rest])))
