"""Where replacements of a word come from: the pre-trained model's word embeddings, or a table of the user's."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from bench.contracts import Scene
from bench.errors import RequestError
from bench.models.files import read_json

ORDINARY = 1.0  # on the Zipf scale of wordfreq: three in a hundred million words; rarer ones are no words
TOGETHER = 512  # words whose neighbours are looked up in one matrix product


class Synonyms(Protocol):
    """Replacements of words."""

    def of(self, word: str) -> tuple[str, ...]:
        """Return replacements of a word in lower case, best first."""


class Table:
    """A JSON file that maps words to lists of replacements, e.g. made from WordNet or HowNet."""

    def __init__(self, path: Path, limit: int) -> None:
        table = read_json(path)
        if not isinstance(table, dict) or not all(isinstance(value, list) for value in table.values()):
            raise RequestError(f"{path}: does not map words to lists of replacements.")
        self.words = {str(word).lower(): tuple(map(str, value))[:limit] for word, value in table.items()}

    def of(self, word: str) -> tuple[str, ...]:
        """Return what the table says."""
        return self.words.get(word, ())


class Neighbours:
    """The nearest words by cosine among whole words of similar frequency in the model's own embedding table.

    Args:
        classifier: the pre-trained model and its tokenizer.
        limit: replacements of a word.
        frequency: largest difference of the two words on the Zipf scale (powers of ten).
        similarity: least cosine.
    """

    def __init__(self, classifier: Any, limit: int, *, frequency: float, similarity: float) -> None:
        self.limit, self.frequency, self.similarity = limit, frequency, similarity
        self.table = classifier.model.get_input_embeddings().weight.detach().float().cpu()
        self.known = whole_words(classifier.tokenizer)

    def of(self, word: str) -> tuple[str, ...]:
        """Return the neighbours that are frequent and similar enough."""
        return self._neighbours.get(word, ())

    @cached_property
    def _neighbours(self) -> dict[str, tuple[str, ...]]:
        """The neighbours of every word: many words in one matrix product are an order of magnitude faster than each."""
        import torch
        import wordfreq

        zipfs = {word: wordfreq.zipf_frequency(word, "en") for word in self.known}
        words = [word for word in self.known if zipfs[word] >= ORDINARY]
        rows = self.table[[self.known[word] for word in words]]
        rows = torch.nn.functional.normalize(rows - rows.mean(0), dim=1)
        zipf = torch.tensor([zipfs[word] for word in words])
        neighbours = {}
        for part in torch.arange(len(words)).split(TOGETHER):
            cosines = rows[part] @ rows.T
            cosines[(zipf - zipf[part, None]).abs() > self.frequency] = -1.0
            cosines[torch.arange(len(part)), part] = -1.0
            best = cosines.topk(min(self.limit, len(words)))
            for at, near, places in zip(part.tolist(), best.values.tolist(), best.indices.tolist(), strict=True):
                near_enough = [words[i] for cosine, i in zip(near, places, strict=True) if cosine >= self.similarity]
                neighbours[words[at]] = tuple(other for other in near_enough if not _same(words[at], other))
        return neighbours


def _same(word: str, other: str) -> bool:
    """Whether two words differ only by an ending, so that replacing one breaks the grammar more than the meaning."""
    short, long = sorted((word, other), key=len)
    return long.startswith(short) and len(long) - len(short) <= 3


def whole_words(tokenizer: Any) -> dict[str, int]:
    """Return the lower-case words of the vocabulary that are one token inside a text, with their ids."""
    inside = tokenizer("a a", add_special_tokens=False)["input_ids"][-1]
    prefix = tokenizer.convert_ids_to_tokens(inside).removesuffix("a")
    by_word = {}
    for token, number in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
        word = token.removeprefix(prefix)
        if token.startswith(prefix) and len(word) > 1 and word.isalpha() and word.isascii() and word.islower():
            by_word[word] = number
    return by_word


def synonyms(scene: Scene, path: Path | None, limit: int, *, frequency: float, similarity: float) -> Synonyms:
    """Return the user's table if a path is given, otherwise neighbours in the pre-trained embedding table."""
    if path is not None:
        return Table(path, limit)
    return Neighbours(scene.pretrained(), limit, frequency=frequency, similarity=similarity)
