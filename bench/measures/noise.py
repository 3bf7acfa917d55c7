"""Robustness to noise that keeps the answer: a defense that makes a model brittle should be seen.

Characters, word order and sentences of the text are disturbed, and a victim and its defended models answer again.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench import seeds
from bench.contracts import BOTH, Defended, Kind, Task, stratified_order
from bench.contracts.examples import Inputs
from bench.contracts.measure import Measure

Perturb = Callable[[str, np.random.Generator], str]
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
SHARE = 0.1  # of the words that one character is changed of


class Noise(Measure):
    """How right a model answers inputs whose letters, word order or order of sentences are disturbed.

    After SenTest (Chavan et al. 2023), which disturbs characters, words and sentences: here letters (swapped, dropped,
    inserted; in one of ten words), word order (one pair of neighbours in ten words) and the order of sentences. Every
    model of a task gets the same disturbed examples. Each kind of noise gives a column of how right the answers are, 0
    to 1; a rejected one is wrong.

    Deviations: there are no synonyms, as they need a lexicon, and words move by one place only, so that the answer
    stays; the order of sentences is added, and a text of one sentence stays as it is. In a pair only the segment that
    carries a trigger is disturbed. Where a task asks for exact letters or words, as to spell one, noise changes what is
    asked: then only the difference to the undefended victim tells something.
    """

    name: ClassVar[str] = "noise"
    version: ClassVar[int] = 1
    citation: ClassVar[str] = "Chavan et al., arXiv 2311.17722"
    kinds: ClassVar[frozenset[Kind]] = BOTH

    examples: int = Field(100, ge=1, description="clean test examples that are disturbed, each once by kind of noise")

    def outcomes(self, defended: Defended, task: Task) -> Mapping[str, NDArray[np.float32]]:
        """Return for each kind of noise how right the answers are: float32 [n]."""
        order = stratified_order(task.test.labels, seeds.rng("noise", task.facts.name))
        rows = task.test.take(np.sort(order[: self.examples]))
        columns = {}
        for name, perturb in PERTURBATIONS.items():
            inputs = perturbed(rows.inputs, perturb, seeds.rng("noise", task.facts.name, name))
            columns[f"noise: {name}"] = task.facts.judge(defended.predict(inputs), rows).right.astype(np.float32)
        return columns


def swapped(text: str, rng: np.random.Generator) -> str:
    """Return the text with two neighbouring letters swapped in some words."""

    def change(word: str) -> str:
        at = int(rng.integers(len(word) - 1))
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]

    return _in_words(text, change, rng)


def dropped(text: str, rng: np.random.Generator) -> str:
    """Return the text with a letter left out of some words."""

    def change(word: str) -> str:
        at = int(rng.integers(len(word)))
        return word[:at] + word[at + 1 :]

    return _in_words(text, change, rng)


def inserted(text: str, rng: np.random.Generator) -> str:
    """Return the text with a random letter put into some words."""

    def change(word: str) -> str:
        at = int(rng.integers(len(word) + 1))
        return word[:at] + string.ascii_lowercase[rng.integers(26)] + word[at:]

    return _in_words(text, change, rng)


def word_order(text: str, rng: np.random.Generator) -> str:
    """Return the text with one pair of neighbouring words swapped for each ten words, at least one."""
    words = text.split()
    if len(words) < 2:
        return text
    for at in rng.permutation(len(words) - 1)[: max(1, len(words) // 10)]:
        words[at], words[at + 1] = words[at + 1], words[at]
    return " ".join(words)


def sentence_order(text: str, rng: np.random.Generator) -> str:
    """Return the text with its sentences in another, random order; a single one stays as it is."""
    sentences = _SENTENCE.split(text)
    order = rng.permutation(len(sentences))
    if (order == np.arange(len(sentences))).all():
        order = np.roll(order, 1)
    return " ".join(sentences[place] for place in order)


PERTURBATIONS: Mapping[str, Perturb] = {
    "swapped letters": swapped,
    "dropped letters": dropped,
    "inserted letters": inserted,
    "word order": word_order,
    "sentence order": sentence_order,
}


def _in_words(text: str, change: Callable[[str], str], rng: np.random.Generator) -> str:
    """Return the text with a change in a share of its words of four letters or more, at least one."""
    words = text.split(" ")
    long = [place for place, word in enumerate(words) if len(word) >= 4]
    for place in rng.permutation(long)[: max(1, round(SHARE * len(words)))].tolist() if long else ():
        words[place] = change(words[place])
    return " ".join(words)


def perturbed(inputs: Inputs, perturb: Perturb, rng: np.random.Generator) -> Inputs:
    """Return the inputs with the carrier of each disturbed."""
    return inputs.with_carrier([perturb(text, rng) for text in inputs.carrier])
