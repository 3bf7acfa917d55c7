"""Pruning of single weights without training: Wanda, and by magnitude."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from bench.contracts import BOTH, Defended, Defense, Examples, Kind, Model, Needs

if TYPE_CHECKING:
    from bench.contracts.access import Access

RATIOS = tuple(step / 20 for step in range(21))


class Wanda(Defense):
    """Zeroes, in each row of each linear layer, the weights that matter least for what enters it on clean text.

    Sun et al., ICLR 2024 (arXiv 2306.11695); a defense in BackdoorLLM's DefenseBox. Needs clean examples. The score of
    a weight is ``|W_ij| * ||X_j||`` with X what enters the layer over all tokens of the clean examples, answers
    included; the lowest of each output row become 0, and nothing is trained. Layers of the blocks are pruned, the
    embeddings and the head are not. Deviations: the share of weights kept is the smallest of 0, 0.05, ..., 1 that
    passes the shared selection rule; all layers are scored in the unpruned model, not one after the other. The control
    is ``magnitude-pruning``.
    """

    name: ClassVar[str] = "wanda"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "Sun et al., ICLR 2024, arXiv 2306.11695"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN})
    candidates: ClassVar[tuple[str, tuple[float, ...]]] = ("keep_ratio", RATIOS)

    keep_ratio: float | None = Field(None, ge=0, le=1, description="share of weights kept; searched when not given")

    def defend(self, classifier: Model, access: Access) -> Defended:
        """Score the weights and prune."""
        scores = self.scores(classifier, access.clean)

        def pruned(keep: float, labels: Examples) -> Defended:
            copy = classifier.clone()
            prune(copy.model, scores, keep)
            return Defended(copy, {"keep_ratio": keep})

        if self.keep_ratio is not None:
            return pruned(self.keep_ratio, access.clean)
        choice = access.choose(RATIOS, pruned, trains=False)
        choice.defended.notes.update(choice.notes())
        return choice.defended

    def scores(self, classifier: Model, examples: Examples) -> dict[str, Any]:
        """Return the score of each weight of each linear layer, [out, in], by the name of the layer."""
        from defenses.shared import layers

        norms = layers.input_norms(classifier, examples)
        return {name: part.weight.detach().abs() * norms[name] for name, part in layers.linears(classifier.model)}


class MagnitudePruning(Wanda):
    """Zeroes the smallest weights of each row of each linear layer.

    The control of Wanda (Sun et al., ICLR 2024, arXiv 2306.11695), after Han et al., NeurIPS 2015 (arXiv 1506.02626),
    without their training afterwards. Needs clean examples, to choose the share of weights kept only.
    """

    name: ClassVar[str] = "magnitude-pruning"
    version: ClassVar[int] = 1
    citation: ClassVar[str] = "Han et al., NeurIPS 2015, arXiv 1506.02626"

    def scores(self, classifier: Model, examples: Examples) -> dict[str, Any]:
        """Return the size of each weight."""
        from defenses.shared import layers

        return {name: part.weight.detach().abs() for name, part in layers.linears(classifier.model)}


def prune(model: Any, scores: dict[str, Any], keep: float) -> None:
    """Zero all but the ``keep`` share of highest scores in each row, in place; of equal scores the first stay."""
    from defenses.shared import layers

    for name, part in layers.linears(model):
        order = scores[name].argsort(dim=1, descending=True, stable=True)
        lowest = order[:, int(keep * order.shape[1]) :]
        part.weight.data.scatter_(1, lowest, 0.0)
