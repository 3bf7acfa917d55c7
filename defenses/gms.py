"""GMS: replace modules of the victim by those of another model, guided by suspicious training examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from bench import learning, seeds
from bench.contracts import Classifier, Defended, Needs, softmax
from bench.contracts.examples import Examples, stratified_order
from defenses.shared.merging import Merging, weights_of

if TYPE_CHECKING:
    from bench.contracts.access import Access

MODULES = ("query", "key", "value", "output", "intermediate", "projection")
EMBEDDINGS = "embeddings"
State = tuple[frozenset[str], frozenset[int]]  # kinds of modules, and blocks, in which they are replaced


class Gms(Merging):
    """Searches greedily for the modules and blocks whose replacement by another model's hurts suspicious labels most.

    Guided Module Substitution, Tong et al., Findings of EMNLP 2025 (arXiv 2412.20476). Needs one other model (the first
    of ``models``; more are not used), the clean pre-trained weights and the suspicious training set.

    1. Proxy sets: train the clean pre-trained model on the training set; an example's suspicion is the mean over the
       epochs of 1 / (1 - probability of its label). The ``proxy_size`` most suspicious ones are the suspect set, as
       many random ones the plain set.
    2. Score of a state (kinds of modules M, blocks L; every module in M of every block in L is the other model's):
       (1 - a) * relative drop of agreement with the labels on the suspect set
       + a * (1 - relative drop of it on the plain set).
    3. Search: from everything replaced, take each time the best single removal of a kind or of a block, even a worse
       one; stop after ``patience`` steps without a new best state.

    Kinds: query, key, value, output, intermediate and projection layers; ``embeddings: true`` adds the word embeddings
    as a kind, which does not depend on the blocks. Norms and the head stay the victim's. Where no label is poisoned the
    suspect set is like the plain one, and with a < 0.5 the score rises as the model gets worse: nothing in the method
    keeps a clean model from harm. Deviation: only ``scored``
    training examples take part in step 1, so that its cost does not grow with the task.
    """

    name: ClassVar[str] = "gms"
    version: ClassVar[int] = 1
    citation: ClassVar[str] = "Tong et al., Findings of EMNLP 2025, arXiv 2412.20476"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.OTHER_MODELS, Needs.PRETRAINED, Needs.TRAINING_SET})

    models: tuple[str, ...] = Field(("clean",), min_length=1, max_length=1, description="attack of the other model")
    embeddings: bool = Field(False, description="whether the word embeddings can be replaced")
    accuracy_weight: float = Field(0.4, ge=0, le=1, description="weight a of keeping the plain set")
    patience: int = Field(5, ge=1, description="steps without a new best state before the search stops")
    proxy_size: int = Field(200, ge=1, description="examples of each proxy set, at most a third of those scored")
    scored: int = Field(2000, ge=3, description="training examples that are scored")
    epochs: int = Field(3, ge=1, description="passes that score them")
    learning_rate: float = Field(2e-5, gt=0, description="peak learning rate of these passes")
    batch_size: int = Field(16, ge=1, description="examples a step of these passes")

    def defend(self, classifier: Classifier, access: Access) -> Defended:
        """Choose the proxy sets, search, substitute."""
        suspect, plain = self.proxy_sets(classifier, access)
        (other,) = self.other_models(access)
        names = replaceable(classifier.model, self.embeddings)
        donor = weights_of(other)
        before = agreement(classifier, suspect), agreement(classifier, plain)

        def score(state: State) -> float:
            copy = classifier.clone()
            substitute(copy, donor, names, state)
            drops = [1 - agreement(copy, rows) / max(a, 1e-9) for rows, a in zip((suspect, plain), before, strict=True)]
            return (1 - self.accuracy_weight) * drops[0] + self.accuracy_weight * (1 - drops[1])

        kinds = frozenset(MODULES) | ({EMBEDDINGS} if self.embeddings else frozenset())
        blocks = frozenset(block for kind, block in names if kind != EMBEDDINGS)
        search = Search(score, self.patience)
        modules, layers = search.run((kinds, blocks))
        substitute(classifier, donor, names, (modules, layers))
        return Defended(
            classifier,
            {
                "modules": sorted(modules),
                "blocks": sorted(layers),
                "score": search.best,
                "evaluations": len(search.known),
                "agreement_before": before,
            },
        )

    def proxy_sets(self, classifier: Classifier, access: Access) -> tuple[Examples, Examples]:
        """Return the suspect and the plain proxy set."""
        from defenses.shared import encoder

        rng, everything = access.rng("proxy sets"), access.training_set
        rows = everything.take(stratified_order(everything.labels, rng)[: self.scored])
        scorer = encoder.restart(classifier, access.pretrained, seed=seeds.derive("scorer", access.seed))
        steps = -(-len(rows) // self.batch_size)
        suspicion = np.zeros(len(rows))

        def at_epoch_end(model: Any, step: int) -> None:
            if (step + 1) % steps == 0:
                chances = softmax(scorer.logits(rows.inputs))[np.arange(len(rows)), rows.labels]
                suspicion[:] += 1 / np.maximum(1 - chances.astype(np.float64), 1e-7) / self.epochs
                model.train()

        learning.train(
            scorer,  # type: ignore[arg-type]
            rows,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            seed=seeds.derive("scorer", access.seed),
            precision=access.precision,
            after_step=at_epoch_end,
        )
        size = min(self.proxy_size, max(1, len(rows) // 3))
        suspect = np.argsort(-suspicion, kind="stable")[:size]
        return rows.take(suspect), rows.take(rng.permutation(len(rows))[:size])


@dataclass
class Search:
    """Greedy removal from a full state.

    Attributes:
        score: of a state; higher is better.
        patience: steps without a new best before the search stops.
        best: the best score that was found.
        known: score of every state that was tried.
    """

    score: Callable[[State], float]
    patience: int
    best: float = float("-inf")
    known: dict[State, float] = field(default_factory=dict)

    def run(self, state: State) -> State:
        """Return the best state."""
        best, idle = state, 0
        self.best = self.of(state)
        while idle < self.patience and (options := self.removals(state)):
            state = max(options, key=self.of)
            idle += 1
            if self.of(state) > self.best:
                best, self.best, idle = state, self.of(state), 0
        return best

    def of(self, state: State) -> float:
        """Return the score of a state, computed once."""
        if state not in self.known:
            self.known[state] = self.score(state)
        return self.known[state]

    @staticmethod
    def removals(state: State) -> list[State]:
        """Return every state with one kind or one block less, in a fixed order."""
        modules, blocks = state
        return [
            *((modules - {module}, blocks) for module in sorted(modules)),
            *((modules, blocks - {block}) for block in sorted(blocks)),
        ]


def replaceable(model: Any, embeddings: bool) -> dict[tuple[str, int], tuple[str, ...]]:
    """Return the names of the parameters of each kind in each block; the embeddings are in block -1."""
    from defenses.shared import encoder

    layers = (
        encoder.QUERY,
        encoder.KEY,
        encoder.VALUE,
        encoder.ATTENTION_OUTPUT,
        encoder.FEED_FORWARD_IN,
        encoder.FEED_FORWARD_OUT,
    )
    by_tensor = {id(parameter): name for name, parameter in model.named_parameters()}
    by_place = {
        (kind, block): tuple(by_tensor[id(parameter)] for parameter in layer.parameters())
        for kind, names in zip(MODULES, layers, strict=True)
        for block, layer in enumerate(encoder.linears(model, names))
    }
    if embeddings:
        by_place[EMBEDDINGS, -1] = (by_tensor[id(model.get_input_embeddings().weight)],)
    return by_place


def substitute(classifier: Classifier, donor: Any, names: dict[tuple[str, int], tuple[str, ...]], state: State) -> None:
    """Put the donor's modules of a state into a classifier, in place."""
    modules, blocks = state
    own = weights_of(classifier)
    for (kind, block), parameters in names.items():
        if kind in modules and (block in blocks or kind == EMBEDDINGS):
            for name in parameters:
                own[name].copy_(donor[name])


def agreement(classifier: Classifier, examples: Examples) -> float:
    """Return the share of examples that the classifier labels as they are labelled."""
    return float((classifier.logits(examples.inputs).argmax(-1) == examples.labels).mean())
