"""CUBE on instruction data: poisoned examples cluster apart from the rest of their group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from bench.contracts import GENERATION, Defended, Examples, FloatArray, Kind
from defenses.cube import Cube, clustered, outside
from defenses.shared.retraining import filtered, trained

if TYPE_CHECKING:
    from bench.contracts.access import Access


class CubeLm(Cube):
    """Clusters the training examples by the states that responses begin from, keeps the main clusters, and retrains.

    After Cui et al., NeurIPS 2022 (arXiv 2206.08514), whose form for classifiers is ``cube``. Needs the training set
    and the clean pre-trained weights.

    1. Train on the suspicious set; take the last state of the last token of every prompt, from which the first token of
       the response is read.
    2. Reduce the dimension with PCA and cluster all examples with HDBSCAN.
    3. Within every group of examples keep the largest cluster; drop the others, the noise among them, that are smaller
       than half of the group.
    4. Train a new model on the rest.

    Deviations from the paper: there are no labels, so the groups of the task take their place, such as the kinds of
    chores; a task without groups has one. The others are those of ``cube``.
    """

    name: ClassVar[str] = "cube-lm"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = GENERATION
    citation: ClassVar[str] = "after Cui et al., NeurIPS 2022, arXiv 2206.08514"

    def defend(self, classifier: Any, access: Access) -> Defended:
        """Filter and retrain."""
        examples = access.training_set
        first, _ = trained(access, examples)
        least = max(5, round(self.cluster_share * len(examples)))
        clusters = clustered(beginnings(first, examples), self.components, least)
        model, notes = filtered(access, examples, outside(examples.labels, clusters))
        return Defended(model, {"clusters": int(clusters.max()) + 1, "noise": int((clusters < 0).sum()), **notes})


def beginnings(generator: Any, examples: Examples) -> FloatArray:
    """Return the last state of the last token of each prompt: float32 [n, hidden]."""
    import numpy as np
    import torch

    from bench import learning
    from defenses.shared.forwards import arithmetic

    objective = generator.objective(examples)
    states = np.zeros((len(examples), generator.model.config.hidden_size), dtype=np.float32)
    generator.model.eval()
    for rows in np.array_split(np.arange(len(examples)), max(1, len(examples) // 16)):
        batch = objective.batch(rows)
        with torch.inference_mode(), arithmetic(generator):
            last = learning.entering_states(generator.model, batch)[-1]
        answered = (batch["labels"] >= 0).int().argmax(1)  # the first token of each response
        states[rows] = last[torch.arange(len(rows)), answered - 1].float().cpu().numpy()
    return states
