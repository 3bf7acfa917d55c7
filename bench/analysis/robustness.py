"""Robustness to noise that keeps the answer: a defense that makes a model brittle should be seen.

After SenTest (Chavan et al. 2023): characters, word order and sentences of the text are disturbed, and a victim and its
defended models answer again. It works on both kinds of model.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bench.contracts import Defended, Examples, TaskFacts
from bench.contracts.examples import Inputs

Perturb = Callable[[str, np.random.Generator], str]
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
SHARE = 0.1  # of the words that one character is changed of


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


def measure(defended: Defended, examples: Examples, facts: TaskFacts, *, seed: int = 0) -> dict[str, float]:
    """Return how right a model answers, in percent, on examples as they are (``none``) and under each perturbation.

    Args:
        defended: a model behind a defense, or behind none.
        examples: n clean examples.
        facts: of the task, which says how right an answer is.
        seed: of what is disturbed; the same for each model that is compared.
    """
    noisy: dict[str, Any] = {"none": examples.inputs}
    for number, (name, perturb) in enumerate(PERTURBATIONS.items()):
        noisy[name] = perturbed(examples.inputs, perturb, np.random.default_rng([seed, number]))
    return {
        name: 100.0 * float(facts.judge(defended.predict(inputs), examples).right.mean())
        for name, inputs in noisy.items()
    }
