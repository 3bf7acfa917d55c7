"""CUBE: poisoned examples cluster apart from the rest of their label."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from bench.contracts import Classifier, Defended
from defenses.shared.retraining import Retraining, filtered, trained

if TYPE_CHECKING:
    from bench.contracts.access import Access


class Cube(Retraining):
    """Clusters the training set by the states of a model trained on it, keeps each label's main cluster, and retrains.

    Cui et al., NeurIPS 2022 Datasets and Benchmarks (arXiv 2206.08514). Needs the training set and the clean
    pre-trained weights.

    1. Train on the suspicious set; take the last state of the first token of every example.
    2. Reduce the dimension and cluster all examples with HDBSCAN.
    3. Within every label keep the largest cluster; drop the others, the noise among them, that are smaller than half
       of the label's examples.
    4. Train a new model on the rest.

    Deviations: PCA alone reduces the dimension; the original puts UMAP behind it, which needs a compiler at run time.
    HDBSCAN's smallest cluster is a share of the training set, because the original's 100 fits 7,000 examples only. Both
    models are trained with the victim's budget, and the last checkpoint is taken.
    """

    name: ClassVar[str] = "cube"
    version: ClassVar[int] = 2
    citation: ClassVar[str] = "Cui et al., NeurIPS 2022, arXiv 2206.08514"
    libraries: ClassVar[tuple[str, ...]] = ("scikit-learn",)

    components: int = Field(10, ge=1, description="dimensions that clustering sees")
    cluster_share: float = Field(100 / 6920, gt=0, le=1, description="smallest cluster as a share of the training set")

    def defend(self, classifier: Classifier, access: Access) -> Defended:
        """Filter and retrain."""
        from defenses.shared.forwards import first_token_last_block

        examples = access.training_set
        first, _ = trained(access, examples)
        least = max(5, round(self.cluster_share * len(examples)))
        clusters = clustered(first_token_last_block(first, examples.inputs), self.components, least)
        suspicious = outside(examples.labels, clusters)
        model, notes = filtered(access, examples, suspicious)
        return Defended(model, {"clusters": int(clusters.max()) + 1, "noise": int((clusters < 0).sum()), **notes})


def clustered(states: np.ndarray, components: int, smallest: int) -> np.ndarray:
    """Return the cluster of every example, int64 [n]; -1 is noise."""
    from sklearn.cluster import HDBSCAN
    from sklearn.decomposition import PCA

    wanted = min(components, *states.shape)
    reduced = PCA(wanted, svd_solver="full").fit_transform(states.astype(np.float64))
    clusters: np.ndarray = HDBSCAN(
        min_cluster_size=smallest, min_samples=smallest, allow_single_cluster=True, copy=True
    ).fit_predict(reduced)
    return clusters.astype(np.int64)


def outside(labels: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Return bool [n]: examples outside of their label's largest cluster, in one smaller than half of the label."""
    suspicious = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        own = labels == label
        names, sizes = np.unique(clusters[own], return_counts=True)
        main = names[sizes.argmax()]
        small = names[(sizes < own.sum() / 2) & (names != main)]
        suspicious |= own & np.isin(clusters, small)
    return suspicious
