"""E-PUR: reset the word embeddings that moved more than their frequency explains."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from pydantic import Field

from bench.contracts import BOTH, Defended, Defense, Kind, Model, Needs

if TYPE_CHECKING:
    from bench.contracts.access import Access


ROWS = 4096  # embeddings whose difference is in memory at once
T = TypeVar("T")
WORDS = 8192  # words that are tokenised at once


class EPur(Defense):
    """Resets the word embeddings with the largest drift for their frequency to the pre-trained ones.

    Zhang et al., Findings of EMNLP 2022 (arXiv 2210.09545). Needs the clean pre-trained weights. For every vocabulary
    entry i with drift delta_i = e_b_i - e_pre_i and frequency f_i the score is ``||delta_i|| / log(max(f_i, 20))``; the
    entries with the highest scores are set back. Frequencies come from ``wordfreq`` (English), as counts in a corpus
    of a given size; a word piece is as frequent as the words that it is a part of. Special tokens and entries that did
    not move are never reset. Deviation: the paper's corpus and constants are not known for certain, so they are fields.
    The frequency of word pieces is that of version 2, which was made after a trigger of this very benchmark had ranked
    174th: what it does against BadWord here was not seen for the first time.
    """

    name: ClassVar[str] = "e-pur"
    version: ClassVar[int] = 2
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "Zhang et al., Findings of EMNLP 2022, arXiv 2210.09545"
    libraries: ClassVar[tuple[str, ...]] = ("wordfreq",)
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.PRETRAINED})

    reset: int = Field(200, ge=0, description="embeddings set back")
    least_count: float = Field(20.0, gt=1, description="frequencies below this count as this")
    corpus_size: float = Field(1e9, gt=1, description="words of the corpus that frequencies are counted in")

    def defend(self, classifier: Model, access: Access) -> Defended:
        """Reset the highest-scoring embeddings."""
        name, pretrained = embedding_of(classifier, access.pretrained)
        table = classifier.model.get_input_embeddings().weight
        rows = self.highest(self.scores(classifier, pretrained))
        table.data[rows] = pretrained[rows].to(table.device, table.dtype)
        words = classifier.tokenizer.convert_ids_to_tokens(rows.tolist())
        return Defended(classifier, {"parameter": name, "reset_words": words})

    def scores(self, classifier: Model, pretrained: Any) -> np.ndarray:
        """Return float64 [vocabulary]: drift over log frequency; 0 for special tokens."""
        drift, logs = self.drift(classifier, pretrained)
        return drift / logs

    def drift(self, classifier: Model, pretrained: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return float64 [vocabulary] twice: ``||delta_i||``, 0 for special tokens, and ``log(max(f_i, 20))``."""
        table = classifier.model.get_input_embeddings().weight.detach()
        pairs = zip(table.split(ROWS), pretrained.split(ROWS), strict=True)
        drift = np.concatenate([(b.double() - a.to(b.device).double()).norm(dim=1).cpu().numpy() for b, a in pairs])
        drift[[i for i in classifier.tokenizer.all_special_ids if i < len(drift)]] = 0.0
        counts = self.corpus_size * frequencies(classifier.tokenizer, len(drift))
        return drift, np.log(np.maximum(counts, self.least_count))

    def highest(self, scores: np.ndarray) -> np.ndarray:
        """Return the rows to set back, the highest score first."""
        order = np.argsort(-scores, kind="stable")[: self.reset]
        return order[scores[order] > 0]

    def word_table(self, classifier: Model, pretrained: Mapping[str, Any]) -> dict[str, Any]:
        """Return columns for every vocabulary entry: id, word, log_frequency, drift, score, reset."""
        drift, logs = self.drift(classifier, embedding_of(classifier, pretrained)[1])
        ids, scores = np.arange(len(drift)), drift / logs
        reset = np.isin(ids, self.highest(scores))
        words = classifier.tokenizer.convert_ids_to_tokens(ids[: len(classifier.tokenizer)].tolist())
        words += [""] * (len(ids) - len(words))
        return {"id": ids, "word": words, "log_frequency": logs, "drift": drift, "score": scores, "reset": reset}


def embedding_of(classifier: Model, pretrained: Any) -> tuple[str, Any]:
    """Return the name of the word-embedding table and its pre-trained counterpart."""
    table = classifier.model.get_input_embeddings().weight
    name = next(name for name, parameter in classifier.model.named_parameters() if parameter is table)
    return name, pretrained[name]


def frequencies(tokenizer: Any, size: int) -> np.ndarray:
    """Return float64 [size]: how often each vocabulary entry occurs in ordinary text, as a share of all words.

    Every word of ``wordfreq`` is tokenised and each of its pieces gets the word's share: so ``##tious`` is as frequent
    as all words with it together. An entry that is a word counts at least as that word, which matters for numbers.
    Entries without a letter or digit, which ``wordfreq`` leaves out, count as the most frequent ones.
    """
    return _frequencies(_Described(tokenizer), size)


class _Described:
    """A tokenizer that equals every other one with the same description, so that counting is done once.

    Attributes:
        plain: its fast part, which neither pads nor truncates and tells nothing but the pieces.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.plain = tokenizer, copy.deepcopy(tokenizer.backend_tokenizer)
        self.plain.no_padding()
        self.plain.no_truncation()
        self.text = self.plain.to_str()

    def pieces(self, texts: list[str]) -> list[list[int]]:
        """Return the ids of the pieces of each text, without special tokens."""
        return [encoding.ids for encoding in self.plain.encode_batch_fast(texts, add_special_tokens=False)]

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Described) and self.text == other.text


@lru_cache(maxsize=4)
def _frequencies(described: _Described, size: int) -> np.ndarray:
    from wordfreq import word_frequency

    tokenizer, words = described.tokenizer, listed_words()
    one, other = described.pieces(["the", " the"])
    shares = np.zeros(size)
    for prefix in ("",) if one == other else ("", " "):  # byte-level pieces differ at the start of a text
        counted = np.zeros(size)
        for some in batched(words.items(), WORDS):
            pieces = described.pieces([f"{prefix}{word}" for word, _ in some])
            share = np.repeat([share for _, share in some], [len(ids) for ids in pieces])
            np.add.at(counted, np.fromiter(chain.from_iterable(pieces), np.int64), share)
        shares = np.maximum(shares, counted)
    for i, token in enumerate(tokenizer.convert_ids_to_tokens(list(range(min(size, len(tokenizer)))))):
        text = spelling(tokenizer, token)
        if not token.startswith("##"):
            shares[i] = max(shares[i], word_frequency(text, "en"))
        if not any(map(str.isalnum, text)):
            shares[i] = np.inf
    shares[np.isinf(shares)] = shares[~np.isinf(shares)].max()
    return shares


def listed_words() -> Mapping[str, float]:
    """Return the English words of ``wordfreq``, the most frequent first, each with its share of all words."""
    from wordfreq import get_frequency_dict

    words: Mapping[str, float] = get_frequency_dict("en", wordlist="best")
    return words


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of at most ``size``."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


def spelling(tokenizer: Any, token: str) -> str:
    """Return the letters that a word piece or a byte-level piece stands for."""
    if token.startswith("##"):
        return token[2:]
    text: str = tokenizer.convert_tokens_to_string([token])
    return text.strip()
