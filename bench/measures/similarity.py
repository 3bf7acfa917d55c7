"""What a classifier's encoder knows of meaning beside its task: whether alike sentences lie close to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from bench.contracts import CLASSIFICATION, Defended, Kind, Task
from bench.contracts.examples import Inputs
from bench.contracts.measure import Measure
from bench.tasks.local import find_folder, read_split, split_file

SPLIT = "test"
TOKENS = 4096  # that go through the encoder together


class Similarity(Measure):
    """Rank correlation of the cosine of two sentences' vectors with how alike people find them.

    The semantic textual similarity benchmark (Cer et al., SemEval 2017, arXiv 1708.00055). The vector of a sentence is
    the mean of the last states of its tokens. The outcome of a pair is the product of its two ranks, each with mean 0
    and variance 1, so that the mean over pairs is Spearman's correlation.

    Deviations: the first pairs are taken instead of all. It is asked of the encoder that a defense leaves: what a
    filter does to inputs has no part in it. A fine-tuned classifier has forgotten some of it before any defense; what
    counts is the difference to the undefended victim.
    """

    name: ClassVar[str] = "similarity"
    version: ClassVar[int] = 1
    citation: ClassVar[str] = "Cer et al., SemEval 2017, arXiv 1708.00055"
    kinds: ClassVar[frozenset[Kind]] = CLASSIFICATION

    pairs: str = Field("similarity_stsb", description="folder with columns text, text_pair and score")
    first: int = Field(400, ge=3, description="how many pairs are taken")

    def files(self) -> tuple[Path, ...]:
        """Return the file of pairs."""
        return (split_file(find_folder(self.pairs, of=f"measure {self.name}"), SPLIT),)

    def outcomes(self, defended: Defended, task: Task) -> Mapping[str, NDArray[np.float32]]:
        """Return the product of the standardised ranks of each pair: float32 [n]."""
        table = read_split(find_folder(self.pairs, of=f"measure {self.name}"), SPLIT)
        table.require(("text", "text_pair", "score"))
        left, right, scores = (list(table.cells(name))[: self.first] for name in ("text", "text_pair", "score"))
        vectors = [sentence_vectors(defended.classifier, texts) for texts in (left, right)]
        cosines = (vectors[0] * vectors[1]).sum(axis=1)
        products = standardised_ranks(cosines) * standardised_ranks(np.asarray(scores, dtype=np.float64))
        return {"similarity: ranks": products.astype(np.float32)}


def sentence_vectors(classifier: Any, texts: Sequence[str]) -> NDArray[np.float64]:
    """Return unit vectors along the mean of the last states of the tokens of each text: [n, hidden]."""
    import torch

    from bench import learning
    from bench.learning.batches import by_budget

    inputs = Inputs(tuple(map(str, texts)))
    model, vectors = classifier.model.eval(), np.zeros((len(texts), classifier.model.config.hidden_size))
    lengths = learning.encode(classifier.tokenizer, inputs, classifier.max_length).lengths
    for rows in by_budget(lengths, TOKENS):
        batch = classifier.padded(inputs.take(rows))
        with torch.inference_mode(), torch.autocast(classifier.device, torch.bfloat16, classifier.precision == "bf16"):
            states = learning.states(model, batch)
        parts = torch.split(states.float(), batch["attention_mask"].sum(1).tolist())
        vectors[rows] = torch.stack([part.mean(0) for part in parts]).cpu().numpy()
    norms: NDArray[np.float64] = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(norms, 1e-12)


def standardised_ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Return ranks, equal values with the same mean rank, with mean 0 and variance 1; 0 where all are equal."""
    from scipy.stats import rankdata

    ranks: NDArray[np.float64] = rankdata(values)
    ranks = ranks - ranks.mean()
    return ranks / max(float(ranks.std()), 1e-12)
