"""BTU: trigger words move first when only embeddings are trained; unlearn them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from bench import learning
from bench.contracts import Classifier, Defended
from defenses.shared.retraining import Retraining, trained

if TYPE_CHECKING:
    import torch

    from bench.contracts.access import Access


class Btu(Retraining):
    """Finds the words whose embeddings move most when only embeddings are trained, and unlearns those embeddings.

    Jiang et al., AAAI 2025 (arXiv 2501.03272). Needs the training set and the clean pre-trained weights.

    1. Exposure: with everything but the word embeddings frozen, train on the suspicious set; backdoor tokens move more
       than clean ones. The tokens of the training set with the largest change are suspicious.
    2. Train the whole model on the suspicious set.
    3. Unlearning: in the embedding of every suspicious token, the dimensions that this training changed most take the
       values of the padding token's embedding.

    Deviations: the constants and how often the paper repeats the exposure are not known for certain, so there is one
    round and the constants are fields; special tokens are never unlearned; no fine-tuning follows (chain it).
    """

    name: ClassVar[str] = "btu"
    version: ClassVar[int] = 1
    citation: ClassVar[str] = "Jiang et al., AAAI 2025, arXiv 2501.03272"

    share: float = Field(0.01, ge=0, le=1, description="suspicious share of the tokens of the training set")
    dimensions: float = Field(1.0, ge=0, le=1, description="share of the dimensions that are unlearned")
    epochs: int = Field(1, ge=0, description="passes over the training set that expose tokens")
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate of the exposure")

    def defend(self, classifier: Classifier, access: Access) -> Defended:
        """Expose, train, unlearn."""
        examples = access.training_set
        clean = access.untrained().model.get_input_embeddings().weight.detach()
        exposed, _ = trained(
            access, examples, epochs=self.epochs, learning_rate=self.learning_rate, trainable=embeddings_of(access)
        )
        change = (exposed.model.get_input_embeddings().weight.detach() - clean).norm(dim=1).cpu().numpy()
        encoded = learning.encode(exposed.tokenizer, examples.inputs, exposed.max_length)
        known = np.setdiff1d(np.unique(encoded.ids), exposed.tokenizer.all_special_ids)
        order = known[np.argsort(-change[known], kind="stable")]
        suspicious = order[: int(np.ceil(self.share * len(known)))]
        model, notes = trained(access, examples)
        table = model.model.get_input_embeddings().weight
        blank = table.data[model.model.config.pad_token_id or 0].clone()
        unlearn(table.data, clean, blank, suspicious, self.dimensions)
        words = model.tokenizer.convert_ids_to_tokens(suspicious.tolist())
        return Defended(model, {"suspicious": words[:100], "suspicious_count": len(words), "training": notes})


def embeddings_of(access: Access) -> object:
    """Return a test of parameter names: is it the word embedding table?"""
    model = access.untrained().model
    table = model.get_input_embeddings().weight
    wanted = next(name for name, parameter in model.named_parameters() if parameter is table)
    return lambda name: name == wanted


def unlearn(table: torch.Tensor, clean: torch.Tensor, blank: torch.Tensor, rows: np.ndarray, dimensions: float) -> None:
    """In the given rows set the dimensions that differ most from the clean table to the blank row, in place."""
    count = int(round(dimensions * table.shape[1]))
    for row in rows:
        changed = (table[row] - clean[row].to(table)).abs().argsort(descending=True, stable=True)[:count]
        table[row, changed] = blank[changed]
