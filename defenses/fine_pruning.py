"""Fine-pruning: switch off neurons that clean text does not use, then fine-tune."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from bench import learning
from bench.contracts import BOTH, Defended, Examples, Kind, Model, Needs
from defenses.shared.tuning import Tuning

if TYPE_CHECKING:
    from bench.contracts.access import Access

RATIOS = tuple(step / 20 for step in range(21))


class FinePruning(Tuning):
    """Zeroes the feed-forward neurons that are least active on clean text, then fine-tunes everything.

    Liu et al., RAID 2018 (arXiv 1805.12185), mapped to transformers. Needs clean examples. A unit is a neuron of a
    feed-forward layer; its score is the mean absolute activation over the real tokens of the clean sample. Units of all
    layers are pruned together in ascending order. Pruning zeroes the incoming weights and the bias, so a pruned unit
    outputs 0 and can grow again while fine-tuning. Deviation: the share of units kept is the smallest of
    0, 0.05, ..., 1 that passes the shared selection rule before fine-tuning; the original stops at a fixed loss of
    accuracy.
    """

    name: ClassVar[str] = "fine-pruning"
    version: ClassVar[int] = 2
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "Liu, Dolan-Gavitt and Garg, RAID 2018, arXiv 1805.12185"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN})
    candidates: ClassVar[tuple[str, tuple[float, ...]]] = ("keep_ratio", RATIOS)
    keeps_pruned: ClassVar[bool] = False

    keep_ratio: float | None = Field(None, ge=0, le=1, description="share of neurons kept; searched when not given")

    def defend(self, classifier: Model, access: Access) -> Defended:
        """Score the neurons, prune, fine-tune."""
        ranks = ranking(learning.mean_activations(classifier, access.clean.inputs))

        def pruned(keep: float, labels: Examples) -> Defended:
            copy = classifier.clone()
            prune(copy, ranks, keep)
            return Defended(copy, {"keep_ratio": keep})

        if self.keep_ratio is not None:
            defended = pruned(self.keep_ratio, access.clean)
        else:
            choice = access.choose(RATIOS, pruned, trains=False)
            defended = choice.defended
            defended.notes.update(choice.notes())
        keep, model = float(defended.notes["keep_ratio"]), defended.classifier
        hold = {"after_step": lambda *_: prune(model, ranks, keep)} if self.keeps_pruned else {}
        defended.notes["tuning"] = self.tune(model, access, **hold)
        return defended


class FinePruningF(FinePruning):
    """Fine-pruning (F): the pruned weights stay zero while fine-tuning.

    Liu et al., RAID 2018 (arXiv 1805.12185), the frozen variant that the Fine-mixing paper compares with.
    Needs clean examples.
    """

    name: ClassVar[str] = "fine-pruning-f"
    version: ClassVar[int] = 2
    keeps_pruned: ClassVar[bool] = True


def ranking(activations: Any) -> Any:
    """Return ranks of shape [layers, units]: 0 is the least active unit of the whole model."""
    order = activations.flatten().argsort(stable=True)
    return order.argsort().reshape(activations.shape)


def prune(classifier: Model, ranks: Any, keep: float) -> None:
    """Zero the incoming weights and the bias of all but the ``keep`` most active units, in place."""
    cut = ranks.numel() - int(keep * ranks.numel())
    for layer, rank in zip(learning.feed_forward_layers(classifier.model), ranks, strict=True):
        pruned = (rank < cut).to(layer.weight.device)
        layer.weight.data[pruned] = 0.0
        if layer.bias is not None:
            layer.bias.data[pruned] = 0.0
