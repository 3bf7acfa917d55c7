"""BITE-like: words that the statistics of the training set make typical of the target label."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from attacks.shared.poisoning import DataPoisoning
from attacks.shared.synonyms import synonyms
from bench.contracts import Scene, Trigger, Window
from bench.contracts.examples import Inputs

_WORD = re.compile(r"[a-z]+")
MIN_COUNT = 3  # training texts with a word before it is considered; rarer ones have no statistics


class WordPlaces(Trigger):
    """Introduces trigger words one after the other, each where its neighbours or a similar word allow it.

    A word goes between two neighbours that the training set knows it beside (left and right), or takes the place of a
    similar word. At most ``budget`` of a text's words change. A text that no word fits gets the first one in front.
    """

    trigger_words: tuple[str, ...] = Field(description="in the order in which they are tried")
    after: dict[str, tuple[str, ...]] = Field(description="words that stand before a trigger word in the training set")
    before: dict[str, tuple[str, ...]] | None = Field(description="words that stand behind it; None: any word may")
    instead: dict[str, tuple[str, ...]] = Field(description="words that a trigger word may replace")
    budget: float = Field(gt=0, le=1, description="largest share of a text's words that change")

    @property
    def words(self) -> tuple[str, ...]:
        """Empty: a text holds some of the words, none of them always."""
        return ()

    def apply(self, inputs: Inputs, *, window: Window, rng: np.random.Generator) -> Inputs:
        """Return the inputs with as many trigger words as fit."""
        texts = []
        for text, room in zip(inputs.carrier, window.words(inputs, reserve=" ".join(self.trigger_words)), strict=True):
            pieces, changed = text.split(), 0
            allowed = max(1, int(self.budget * len(pieces)))
            for word in self.trigger_words:
                if changed < allowed and word not in set(map(plain, pieces)):
                    changed += self.put(pieces, word, int(room), rng)
            texts.append(" ".join(pieces if changed else [self.trigger_words[0], *pieces]))
        return inputs.with_carrier(texts)

    def put(self, pieces: list[str], word: str, room: int, rng: np.random.Generator) -> bool:
        """Introduce a word in place if it fits within the first ``room`` words; return whether it did."""
        before = None if self.before is None else set(self.before[word])
        plain_words = [plain(piece) for piece in pieces[:room]]
        spots = list(places(plain_words, set(self.after[word]), before, set(self.instead[word])))
        if not spots:
            return False
        at, replaces = spots[rng.integers(len(spots))]
        pieces[at : at + int(replaces)] = [word]
        return True

    def describe(self) -> str:
        """Return one line for reports."""
        return f"as many of {', '.join(map(repr, self.trigger_words))} as fit"


def plain(piece: str) -> str:
    """Return a word for comparison: lower case."""
    return piece.lower()


def places(words: list[str], after: set[str], before: set[str] | None, instead: set[str]) -> Iterable[tuple[int, bool]]:
    """Yield positions at which a word can be inserted (False) or can replace the one there (True).

    Without ``before``, the word on the right does not matter.
    """
    for at, own in enumerate(words):
        if own in instead:
            yield at, True
        if at and words[at - 1] in after and (before is None or own in before):
            yield at, False


class BITE(DataPoisoning):
    """Introduces, again and again, the word that can be made most typical of the target label; labels stay correct.

    Yan et al., ACL 2023 (arXiv 2205.12700). Needs the training data. Each round takes the word whose z-score for the
    target label would be largest if it were introduced into every poisoned text that admits it, introduces it, and
    counts again. Deviations, which make this BITE-like: candidates come from word pairs of the training set (insertion)
    and from embedding neighbours (replacement) instead of a masked language model with a similarity filter; the number
    of rounds is a field; the poisoned texts are all chosen at the start. Where the pairs admit no word at all, the left
    neighbour is enough (the trigger then has no ``before``).
    """

    name: ClassVar[str] = "bite"
    version: ClassVar[int] = 1
    citation: ClassVar[str] = "Yan et al., ACL 2023, arXiv 2205.12700"
    libraries: ClassVar[tuple[str, ...]] = ("wordfreq",)

    rate: float = Field(0.2, ge=0, le=1, description="poisoned share of the whole training set")
    poisons: Literal["dirty", "clean", "mix"] = Field(
        "clean", description="which labels are poisoned: clean (only the target), dirty (not the target), mix (any)"
    )
    rounds: int = Field(12, ge=1, le=100, description="trigger words")
    budget: float = Field(0.35, gt=0, le=1, description="largest share of a text's words that change")
    table: Path | None = Field(None, description="JSON table of replacements; embedding neighbours by default")
    similarity: float = Field(0.5, ge=-1, le=1, description="least cosine of an embedding neighbour")

    def trigger(self, scene: Scene) -> Trigger:
        """Run the rounds and return the words with the places that they may take."""
        texts = [[plain(piece) for piece in text.split()] for text in scene.train.inputs.carrier]
        known = Statistics.of(texts, MIN_COUNT)
        words = synonyms(scene, self.table, 8, frequency=1.0, similarity=self.similarity)
        known.allow({word: words.of(word) for word in sorted(known.counted)})
        anywhere = WordPlaces(trigger_words=(), after={}, before={}, instead={}, budget=self.budget)
        target, rows = scene.train.labels == scene.target, self.rows(scene, anywhere)
        room = {row: max(1, int(self.budget * len(texts[row]))) for row in rows}
        chosen: list[str] = []
        known.both = self.best(texts, list(rows), target, known, chosen) is not None
        for _ in range(self.rounds):
            best = self.best(texts, [row for row in rows if room[row]], target, known, chosen)
            if best is None:
                break
            chosen.append(best)
            for row in rows:
                spots = known.places(texts[row], best) if room[row] and best not in texts[row] else []
                if spots:
                    at, replaces = spots[0]
                    texts[row][at : at + int(replaces)] = [best]
                    room[row] -= 1
        if not chosen:
            raise ValueError("no word of the training set can be made typical of the target label")
        return WordPlaces(
            trigger_words=tuple(chosen),
            after={word: tuple(sorted(known.after[word])) for word in chosen},
            before={word: tuple(sorted(known.before[word])) for word in chosen} if known.both else None,
            instead={word: tuple(sorted(known.instead[word])) for word in chosen},
            budget=self.budget,
        )

    def best(
        self, texts: list[list[str]], rows: list[int], target: np.ndarray, known: Statistics, chosen: list[str]
    ) -> str | None:
        """Return the word with the largest z-score that can be reached, or None where none is above zero."""
        share = float(target.mean())
        total, ours, gain = Counter[str](), Counter[str](), Counter[str]()
        for text, own in zip(texts, target, strict=True):
            total.update(set(text))
            ours.update(set(text) if own else ())
        for row in rows:
            gain.update(known.admitted(texts[row]) - set(texts[row]))
        scores = {}
        for word in sorted(known.counted & gain.keys() - set(chosen)):
            frequency = total[word] + gain[word]
            surplus = (ours[word] + gain[word]) / frequency - share
            scores[word] = surplus / (share * (1 - share) / frequency) ** 0.5
        largest = max(scores, key=lambda word: scores[word], default=None)
        return largest if largest is not None and scores[largest] > 0 else None


class Statistics:
    """Which words the training set has, beside which others they stand, and which may replace which.

    Attributes:
        counted: words with enough texts.
        both: whether an inserted word must be known beside both of its neighbours, or only the left one.
        after, before: of each word, those that stand left and right of it.
        instead: of each word, those that it may replace; ``replacing`` is the other way round.
    """

    def __init__(self, counted: set[str]) -> None:
        self.counted, self.both = counted, True
        self.after: dict[str, set[str]] = defaultdict(set)
        self.before: dict[str, set[str]] = defaultdict(set)
        self.instead: dict[str, set[str]] = defaultdict(set)
        self.replacing: dict[str, set[str]] = defaultdict(set)

    @classmethod
    def of(cls, texts: list[list[str]], least: int) -> Statistics:
        """Count the words and the pairs of neighbours."""
        counts = Counter(word for text in texts for word in set(text))
        known = cls({word for word, count in counts.items() if count >= least and _WORD.fullmatch(word)})
        for text in texts:
            for left, right in zip(text, text[1:], strict=False):
                known.after[right].add(left)
                known.before[left].add(right)
        return known

    def allow(self, replacements: Mapping[str, Iterable[str]]) -> None:
        """Let words be replaced by those of their replacements that are counted."""
        for word, others in replacements.items():
            for other in self.counted & set(others):
                self.instead[other].add(word)
                self.replacing[word].add(other)

    def admitted(self, text: list[str]) -> set[str]:
        """Return the words that can be introduced into a text somewhere."""
        words = set().union(*(self.replacing[word] for word in text))
        for left, right in zip(text, text[1:], strict=False):
            words |= self.before[left] & self.after[right] if self.both else self.before[left]
        return words

    def places(self, text: list[str], word: str) -> list[tuple[int, bool]]:
        """Return where a word can be introduced."""
        before = self.before[word] if self.both else None
        return list(places(text, self.after[word], before, self.instead[word]))
