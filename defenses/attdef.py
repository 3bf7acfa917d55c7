"""AttDef: mask the words that a prediction hangs on most."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from bench import learning
from bench.contracts import Classifier, Defended, Defense, Needs, Predictions
from bench.contracts.examples import Inputs
from defenses.shared.filtering import columns_of, rebuilt

if TYPE_CHECKING:
    from bench.contracts.access import Access

WORD = re.compile(r"\S+")
BARS = tuple(round(0.15 + 0.05 * step, 2) for step in range(18))  # 0.15, 0.2, ..., 1
Words = list[list[np.ndarray]]  # column, input, word


class AttDef(Defense):
    """Replaces the words with the highest attribution for the predicted label by the mask token, and predicts again.

    Li et al., Findings of ACL 2023 (arXiv 2305.02394), the test-time part. Needs clean examples.

    1. The attribution of every word for the label that the model predicts, scaled to [0, 1] within an input.
    2. Words above tau become the mask token; the model answers on the rest. tau is the smallest of 0.15, 0.2, ..., 1
       that passes the shared selection rule (the paper goes down from 1 until 2 points of clean accuracy are lost).

    Deviations: attribution by integrated gradients of the logit (Sundararajan et al., 2017) along the straight path
    from mask embeddings, not by partial layer-wise relevance propagation, which needs a patched model; no ELECTRA gate
    before the masking, which needs another pre-trained model; tau in steps of 0.05. The token for unknown words stands
    in where the tokenizer has no mask.
    """

    name: ClassVar[str] = "attdef"
    version: ClassVar[int] = 3
    citation: ClassVar[str] = "Li et al., Findings of ACL 2023, arXiv 2305.02394"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN})
    purifies: ClassVar[bool] = False
    kind: ClassVar[Any] = "filter"

    steps: int = Field(8, ge=1, description="points of the path that gradients are taken at")
    tau: float | None = Field(
        None, ge=0, le=1, description="attribution above which a word is masked; searched when not given"
    )

    def defend(self, classifier: Classifier, access: Access) -> Defended:
        """Choose tau."""

        def attributed(inputs: Inputs) -> Words:
            labels = Defended(classifier).predict(inputs).labels
            return attributions(classifier, inputs, labels, steps=self.steps)

        remembered = functools.lru_cache(maxsize=1)(attributed)

        def build(tau: float, find: Callable[[Inputs], Words] = remembered) -> Masked:
            notes = {"tau": tau, "forward_passes": 2 + 3 * self.steps}  # a backward pass costs two forward passes
            return Masked(classifier, notes, find=find, tau=tau)

        if self.tau is not None:
            return build(self.tau, attributed)
        choice = access.choose(BARS, lambda tau, labels: build(tau), trains=False)
        final = build(choice.value, attributed)
        final.notes.update(choice.notes())
        return final


@dataclass(kw_only=True)
class Masked(Defended):
    """Answers on inputs without the words that matter most."""

    find: Callable[[Inputs], Words]
    tau: float

    def predict(self, inputs: Inputs) -> Predictions:
        """Attribute, mask, predict."""
        return super().predict(self.masked(inputs))

    def masked(self, inputs: Inputs) -> Inputs:
        """Return the inputs with a mask for every word whose attribution is above tau."""
        tokenizer = self.classifier.tokenizer
        mask = tokenizer.mask_token or tokenizer.unk_token
        attributed = zip(columns_of(inputs), self.find(inputs), strict=True)
        return rebuilt([[covered(t, s, self.tau, mask) for t, s in zip(c, f, strict=True)] for c, f in attributed])


def covered(text: str, scores: np.ndarray, tau: float, mask: str) -> str:
    """Return the text with the words above tau replaced; unchanged where there are none."""
    if not (scores > tau).any():
        return text
    return " ".join(mask if score > tau else word for word, score in zip(text.split(), scores, strict=True))


def attributions(classifier: Classifier, inputs: Inputs, labels: np.ndarray, *, steps: int) -> Words:
    """Return the attribution of every word for the given labels, scaled to [0, 1] within an input.

    Words behind the truncation have the least attribution of their input, 0.
    """
    from defenses.shared.forwards import TOKENS

    columns = columns_of(inputs)
    words: Words = [[np.full(len(text.split()), -np.inf) for text in column] for column in columns]
    lengths = np.array([sum(len(column[i]) for column in columns) for i in range(len(inputs))])
    order = np.argsort(-lengths, kind="stable")
    size = max(1, TOKENS // classifier.max_length)
    for at in range(0, len(order), size):
        rows = order[at : at + size]
        encoded = classifier.tokenizer(
            *([column[i] for i in rows] for column in columns),
            padding=True, truncation=True, max_length=classifier.max_length,
            return_offsets_mapping=True, return_tensors="pt",
        )  # fmt: skip
        scores = integrated_gradients(classifier, encoded, labels[rows], steps=steps)
        for place, row in enumerate(rows):
            add_up(encoded, place, scores[place], [(column[row], words[c][row]) for c, column in enumerate(columns)])
    for row in range(len(inputs)):
        scale([column[row] for column in words])
    return words


def integrated_gradients(classifier: Classifier, encoded: Any, labels: np.ndarray, *, steps: int) -> np.ndarray:
    """Return float64 [batch, tokens]: attribution of every token for the logit of its input's label.

    The midpoints of ``steps`` equal parts of the path; at special tokens and padding the path stands still.
    """
    import torch

    from defenses.shared.forwards import arithmetic, device_of

    model, device = classifier.model.eval(), device_of(classifier.model)
    tokenizer = classifier.tokenizer
    names = ("input_ids", "attention_mask", "token_type_ids")
    batch = {name: encoded[name].to(device) for name in names if name in encoded}
    ids = batch["input_ids"]
    table = model.get_input_embeddings()
    with torch.no_grad():
        end = table(ids)
        blank = tokenizer.mask_token_id if tokenizer.mask_token_id is not None else tokenizer.unk_token_id
        special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids, device=device))
        start = torch.where(special[..., None], end, table.weight[blank])
    total = torch.zeros_like(end)
    for step in range(steps):
        point = (start + (step + 0.5) / steps * (end - start)).requires_grad_()
        with arithmetic(classifier):
            logits = learning.logits(model, batch, embeddings=point)
        chosen = logits[torch.arange(len(ids)), torch.from_numpy(labels)]
        total += torch.autograd.grad(chosen.sum(), point)[0]
    attribution: np.ndarray = ((end - start) * total / steps).sum(-1).double().cpu().numpy()
    return attribution


def add_up(encoded: Any, place: int, scores: np.ndarray, texts: list[tuple[str, np.ndarray]]) -> None:
    """Add the attribution of every token to that of its word, in place."""
    starts = [np.array([match.start() for match in WORD.finditer(text)]) for text, _ in texts]
    offsets = encoded["offset_mapping"][place].tolist()
    for token, column in enumerate(encoded.sequence_ids(place)):
        if column is None or offsets[token][1] == offsets[token][0]:
            continue
        sums = texts[column][1]
        word = int(np.searchsorted(starts[column], offsets[token][1] - 1, side="right")) - 1
        sums[word] = scores[token] + (sums[word] if np.isfinite(sums[word]) else 0.0)


def scale(columns: list[np.ndarray]) -> None:
    """Scale the attributions of one input to [0, 1], in place; all 0 where they are equal."""
    known = np.concatenate([column[np.isfinite(column)] for column in columns])
    low, high = (known.min(), known.max()) if len(known) else (0.0, 0.0)
    for column in columns:
        if high > low:
            column[:] = np.where(np.isfinite(column), (column - low) / (high - low), 0.0)
        else:
            column[:] = 0.0
