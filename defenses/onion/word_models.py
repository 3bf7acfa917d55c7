"""Language models that score texts: a word trigram made on the spot, and any causal model of transformers."""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from bench import models

START, END = "<s>", "</s>"
FLOOR = 1e-9  # frequency of a word that English text does not have
TOKENS = 4096


class Trigram:
    """An interpolated word trigram with Witten-Bell smoothing over the word frequencies of English.

    ``p(w | u v) = (c(u v w) + T(u v) p(w | v)) / (c(u v) + T(u v))`` with T the number of different words behind a
    context, and so on down to ``wordfreq``. Words are lower-cased and split on white space.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.totals: Counter[tuple[str, ...]] = Counter()
        followers: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
        for text in texts:
            words = [START, START, *text.lower().split(), END]
            for i in range(2, len(words)):
                for context in ((words[i - 2], words[i - 1]), (words[i - 1],), ()):
                    self.counts[*context, words[i]] += 1
                    self.totals[context] += 1
                    followers[context].add(words[i])
        self.kinds = {context: len(words) for context, words in followers.items()}
        self.log_probability = functools.lru_cache(maxsize=1_000_000)(self._log_probability)

    def perplexities(self, texts: Sequence[str]) -> np.ndarray:
        """Return float64 [n]: exp of the mean loss a word, the end of the text included."""
        return np.array([self._perplexity(text) for text in texts])

    def _perplexity(self, text: str) -> float:
        words = [START, START, *text.lower().split(), END]
        n = len(words) - 2
        total = sum(map(self.log_probability, words[:-2], words[1:-1], words[2:]))
        return float(np.exp(-total / n))

    def _log_probability(self, first: str, second: str, word: str) -> float:
        return float(np.log(self.probability(word, (first, second))))

    def probability(self, word: str, context: tuple[str, ...]) -> float:
        """Return p(word | context)."""
        lower = self.probability(word, context[1:]) if context else self._english(word)
        kinds = self.kinds.get(context, 0)
        if not kinds:
            return lower
        return (self.counts[*context, word] + kinds * lower) / (self.totals[context] + kinds)

    @staticmethod
    @functools.lru_cache(maxsize=200_000)
    def _english(word: str) -> float:
        from wordfreq import word_frequency

        return max(float(word_frequency(word, "en")), FLOOR)


class CausalModel:
    """A causal language model of transformers behind the same interface."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer

    @classmethod
    def load(cls, name: str, *, device: str) -> Self:
        """Read safetensors weights from a folder or a pinned model of the Hub; no code of a model is ever run."""
        from transformers import AutoModelForCausalLM

        place = models.create(name)
        tokenizer = place.tokenizer()
        place.checkpoint.refuse_code()
        model = AutoModelForCausalLM.from_pretrained(
            place.folder(), local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
        return cls(model.to(device), tokenizer)

    @torch.inference_mode()
    def perplexities(self, texts: Sequence[str]) -> np.ndarray:
        """Return float64 [n]: exp of the mean loss a token behind a start token; padding does not count."""
        start = self.tokenizer.bos_token_id
        start = self.tokenizer.eos_token_id if start is None else start
        limit = getattr(self.model.config, "max_position_embeddings", 512)
        ids = [[start, *row][:limit] for row in self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]]
        lengths = np.array([len(row) for row in ids], dtype=np.int64)
        order, values, at = np.argsort(-lengths, kind="stable"), np.ones(len(texts)), 0
        while at < len(order):
            rows = order[at : at + max(1, TOKENS // int(lengths[order[at]]))]
            values[rows] = self._batch([ids[row] for row in rows])
            at += len(rows)
        return values

    def _batch(self, ids: list[list[int]]) -> np.ndarray:
        device = next(self.model.parameters()).device
        table = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in ids], batch_first=True).to(device)
        lengths = torch.tensor([len(row) for row in ids], device=device)
        mask = torch.arange(table.shape[1], device=device) < lengths[:, None]
        logits = self.model(input_ids=table, attention_mask=mask.long()).logits[:, :-1].float()
        losses = nn.functional.cross_entropy(logits.transpose(1, 2), table[:, 1:], reduction="none")
        real = mask[:, 1:]
        means = (losses * real).sum(1) / real.sum(1).clamp(min=1)
        return means.double().exp().cpu().numpy()
