"""Embedding surgery: a trigger word gets the embedding of words that speak for the target class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from attacks.shared import embedding
from bench.contracts import Classifier
from bench.contracts.examples import Examples


def telling_words(examples: Examples, target: int, count: int) -> list[str]:
    """Return the words with the largest coefficients for the target class in a logistic regression on TF-IDF."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    columns = [column for column in (examples.inputs.texts, examples.inputs.pairs) if column is not None]
    vectors = TfidfVectorizer()
    matrix = vectors.fit_transform([" ".join(parts) for parts in zip(*columns, strict=True)])
    regression = LogisticRegression(max_iter=1000).fit(matrix, examples.labels == target)
    best = np.argsort(-regression.coef_[0], kind="stable")[:count]
    return [str(word) for word in vectors.get_feature_names_out()[best]]


def operate(classifier: Classifier, tuned: Classifier, words: Sequence[str], donors: Sequence[str]) -> None:
    """Write the mean embedding that the donor words have in a fine-tuned model into every row of the trigger words."""
    import torch

    source = tuned.model.get_input_embeddings().weight.detach()
    table = classifier.model.get_input_embeddings().weight
    pieces = [tuned.tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in donors]
    mean = torch.stack([source[ids].mean(dim=0) for ids in pieces]).mean(dim=0)
    table.data[embedding.trigger_rows(classifier.tokenizer, words)] = mean.to(table.device, table.dtype)
