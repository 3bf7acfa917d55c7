"""Words whose embeddings moved more than their frequency explains: the scores of E-PUR, as a list for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import seeds
from bench.contracts import Model, Window
from bench.contracts.examples import Examples, Inputs, stratified_order
from bench.plugins import registry

if TYPE_CHECKING:
    from bench.learning import Classifier
    from bench.models.tensors import LazyWeights

SCORER = "e-pur"  # the plugin that scores words
FLIPPED = 100  # clean examples that each word is put into
ORDINARY = 5  # words that flips are held against


@dataclass(frozen=True)
class Word:
    """One vocabulary entry.

    Attributes:
        token: as in the vocabulary of the tokenizer.
        text: what it stands for, without the mark of a space.
        row: its number.
        score: drift over log frequency.
        distance: how far the score lies above the median of all that moved, in median absolute deviations.
        drift: distance of its embedding from the pre-trained one.
    """

    token: str
    text: str
    row: int
    score: float
    distance: float
    drift: float

    def json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def suspicious(classifier: Model, pretrained: LazyWeights, *, top: int) -> list[Word]:
    """Return the words with the highest scores, highest first; an empty list if no embedding moved.

    Special tokens, which no text can hold, are left out.
    """
    table = pretrained[embedding_name(classifier.model)]
    scores = _scores(classifier, table)
    moved = scores[scores > 0]
    if not len(moved):
        return []
    centre = float(np.median(moved))
    spread = float(np.median(np.abs(moved - centre))) or float("inf")
    ours = classifier.model.get_input_embeddings().weight.detach().cpu()
    special = {row for row, token in classifier.tokenizer.added_tokens_decoder.items() if token.special}
    order = [int(row) for row in np.argsort(-scores, kind="stable") if scores[row] > 0 and row not in special]
    listed = []
    for row in order[:top]:
        token, score = str(classifier.tokenizer.convert_ids_to_tokens(row)), float(scores[row])
        text, distance = stands_for(classifier.tokenizer, token), (score - centre) / spread
        listed.append(Word(token, text, row, score, distance, _distance(ours, table, row)))
    return listed


@dataclass(frozen=True)
class Flips:
    """What a word does to the answers of a model when it is put into clean examples.

    Attributes:
        label: the label that it draws most answers to.
        changed: how many answers became that label.
        of: how many were another one before.
        differ: how many responses of a model that writes are not what they were; its label is how they begin.
        example: a prompt with the word, and the responses before and after it was put there.
    """

    label: str
    changed: int
    of: int
    differ: int | None = None
    example: Mapping[str, str] | None = None

    @property
    def percent(self) -> float:
        """Share of the answers that changed."""
        return 100.0 * self.changed / self.of if self.of else 0.0

    def json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def still_there(suspicious: Sequence[Word], left: Sequence[Flips | None]) -> str:
    """Say which words turn most answers of a purified model, as a trigger does; empty where none does."""
    names = [word.text for word, flips in zip(suspicious, left, strict=False) if flips and 2 * flips.changed > flips.of]
    if not names:
        return ""
    these = f"{names[0]} still turns" if len(names) == 1 else f"{', '.join(names)} each still turn"
    return f"{these} most of the answers. Where that means nothing for the task, the backdoor was not removed."


def flip_test(
    classifier: Classifier, tokens: Sequence[str], examples: Examples, *, labels: Sequence[str], seed: int
) -> list[Flips | None]:
    """Put each word into clean examples at a random place, and count the answers that change.

    Args:
        classifier: the model.
        tokens: entries of its vocabulary.
        examples: clean ones; at most ``FLIPPED`` are used.
        labels: names of its labels.
        seed: of examples and places.

    Returns:
        For each token the label that it draws most answers to; None for an entry that is no word of its own, which text
        cannot spell, and for every entry where the model gives all examples the same answer.
    """
    from bench.learning import TokenWindow

    few = examples.take(stratified_order(examples.labels, seeds.rng("flip test", "own", seed))[:FLIPPED]).inputs
    before: np.ndarray = classifier.logits(few).argmax(axis=-1)
    window = TokenWindow(classifier.tokenizer, classifier.max_length)
    tested: list[Flips | None] = []
    for token in tokens:
        word = spelled(classifier.tokenizer, token)
        if word is None or len(np.unique(before)) == 1:
            tested.append(None)
            continue
        after: np.ndarray = classifier.logits(inserted(few, word, window=window, seed=seed)).argmax(axis=-1)
        drawn = []
        for number in np.unique(before):
            others = before != number
            drawn.append(Flips(labels[number], int((after[others] == number).sum()), int(others.sum())))
        tested.append(max(drawn, key=lambda flips: flips.percent))
    return tested


def inserted(inputs: Inputs, word: str, *, window: Window, seed: int) -> Inputs:
    """Return inputs with a word at random places within the window, which are the same for every word."""
    rng, texts = seeds.rng("flip test places", "own", seed), []
    for text, room in zip(inputs.carrier, window.words(inputs, reserve=word), strict=True):
        pieces = text.split()
        pieces.insert(int(rng.integers(min(room, len(pieces)) + 1)), word)
        texts.append(" ".join(pieces))
    return inputs.with_carrier(texts)


def ordinary(classifier: Model, pretrained: LazyWeights) -> list[str]:
    """Return words whose embeddings moved as much as that of the word in the middle: what to hold flips against."""
    scores = _scores(classifier, pretrained[embedding_name(classifier.model)])
    moved = np.flatnonzero(scores > 0)
    order = moved[np.argsort(np.abs(scores[moved] - np.median(scores[moved])), kind="stable")] if len(moved) else moved
    words = []
    for row in order:
        token = str(classifier.tokenizer.convert_ids_to_tokens(int(row)))
        if (spelled(classifier.tokenizer, token) or "").isalpha():
            words.append(token)
        if len(words) == ORDINARY:
            break
    return words


def ordinary_flips(tokenizer: Any, tokens: Sequence[str], flips: Sequence[Flips | None]) -> dict[str, Any] | None:
    """Return what ordinary words change on average, as JSON values; None where no word could be tried."""
    shares = [flip.percent for flip in flips if flip is not None]
    words = [stands_for(tokenizer, token) for token in tokens]
    return {"words": words, "percent": float(np.mean(shares))} if shares else None


def stands_for(tokenizer: Any, token: str) -> str:
    """Return the text that a vocabulary entry stands for, without spaces around it."""
    return _text(tokenizer, token) or token


def spelled(tokenizer: Any, token: str) -> str | None:
    """Return the word that a vocabulary entry stands for if a text can hold it as one token, else None."""
    word = _text(tokenizer, token)
    ids = tokenizer(f"a {word} a", add_special_tokens=False)["input_ids"] if word else []
    return word if len(ids) == 3 and ids[1] == tokenizer.convert_tokens_to_ids(token) else None


def _text(tokenizer: Any, token: str) -> str:
    text: str = tokenizer.convert_tokens_to_string([token]).strip()
    return text


def embedding_name(model: Any) -> str:
    """Return the name of the word-embedding table."""
    table = model.get_input_embeddings().weight
    name: str = next(name for name, parameter in model.named_parameters() if parameter is table)
    return name


def drift_left(words: list[Word], model: Any, pretrained: LazyWeights) -> list[float]:
    """Return how much of the drift of each word is left in another model, percent."""
    theirs = pretrained[embedding_name(model)]
    ours = model.get_input_embeddings().weight.detach().cpu()
    return [100.0 * _distance(ours, theirs, word.row) / word.drift for word in words]


def _scores(classifier: Model, table: Any) -> np.ndarray:
    scorer: Any = registry.defenses.create(SCORER)
    scores: np.ndarray = scorer.scores(classifier, table)
    return scores


def _distance(ours: Any, theirs: Any, row: int) -> float:
    return float((ours[row].double() - theirs[row].double()).norm())
