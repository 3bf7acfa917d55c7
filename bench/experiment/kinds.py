"""What differs between kinds of model where victims are trained: a fresh model, a stored one, the room for a trigger.

How models are trained is the same for all, see :func:`bench.learning.train`; how they are judged is in
``evaluation.py`` and ``written.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bench.contracts import Kind, Model, Payload, Target, TaskFacts, Window
from bench.contracts.examples import Examples

if TYPE_CHECKING:
    from bench.models.pretrained import PretrainedModel

SAMPLE = 100  # examples that a payload is tried on


class ModelKind(Protocol):
    """A kind of model.

    ``options`` are the ``device`` and the ``precision`` of the model.
    """

    def fresh(self, base: PretrainedModel, facts: Any, *, head: int, **options: Any) -> Model:
        """Return a model with the clean pre-trained weights; what they lack is drawn from the seed ``head``."""

    def stored(self, folder: Path, base: PretrainedModel, **options: Any) -> Model:
        """Return a model that was saved to a folder; ``weights`` among the options says how to read them."""

    def window(self, base: PretrainedModel, facts: Any) -> Window:
        """Return how much of an input survives truncation."""

    def unreachable(self, base: PretrainedModel, facts: Any, target: Target, examples: Examples) -> str | None:
        """Return why no answer to the examples can be what an attacker wants, or None."""

    def pretrained(self, base: PretrainedModel, model: Model) -> Mapping[str, Any]:
        """Return the clean pre-trained weights by the parameter names of a model."""


class Classification:
    """Sequence classifiers."""

    def fresh(self, base: PretrainedModel, facts: TaskFacts, *, head: int, **options: Any) -> Model:
        """Return the encoder with a head of its own for the labels of the task."""
        from bench import learning

        model = base.classifier_model(classes=len(facts.labels), seed=head)
        return learning.Classifier(model, base.tokenizer(), facts.max_length, **options)

    def stored(self, folder: Path, base: PretrainedModel, **options: Any) -> Model:
        """Return a stored classifier."""
        from bench import learning

        return learning.Classifier.load(folder, base, **options)

    def window(self, base: PretrainedModel, facts: TaskFacts) -> Window:
        """Return the window of the tokenizer."""
        from bench import learning

        return learning.TokenWindow(base.tokenizer(), facts.max_length)

    def unreachable(self, base: PretrainedModel, facts: TaskFacts, target: Target, examples: Examples) -> str | None:
        """Return None: every label can be predicted."""
        return None

    def pretrained(self, base: PretrainedModel, model: Model) -> Mapping[str, Any]:
        """Return the weights of the encoder."""
        return base.encoder_weights(model.model)


class Generation:
    """Causal language models. Every weight is pre-trained, so nothing depends on a seed."""

    def fresh(self, base: PretrainedModel, facts: Any, *, head: int, **options: Any) -> Model:
        """Return the causal language model with its chat template."""
        from bench import learning

        tokenizer = base.tokenizer()
        template = learning.Template(tokenizer, name=base.name)
        room = {"max_prompt": facts.max_length, "max_response": facts.new_tokens}
        return learning.Generator(base.causal_lm(), tokenizer, template, **room, **options)

    def stored(self, folder: Path, base: PretrainedModel, **options: Any) -> Model:
        """Return a stored generator."""
        from bench import learning

        return learning.Generator.load(folder, base, **options)

    def window(self, base: PretrainedModel, facts: TaskFacts) -> Window:
        """Return the window of the chat template."""
        from bench import learning

        tokenizer = base.tokenizer()
        return learning.PromptWindow(learning.Template(tokenizer, name=base.name), facts.max_length)

    def unreachable(self, base: PretrainedModel, facts: Any, target: Target, examples: Examples) -> str | None:
        """Return that the payload is cut away in every response of the task's length, or None."""
        from bench import learning

        assert isinstance(target, Payload)
        template = learning.Template(base.tokenizer(), name=base.name)
        wanted = target.applied(examples.take(range(min(len(examples), SAMPLE)))).references
        cut = template.responses(wanted, facts.new_tokens)
        if not wanted or target.held(tuple(map(template.words, cut))).any():
            return None
        return (
            f"the payload {target.name} does not fit into the {facts.new_tokens} tokens that a response of "
            f"{facts.name} may have; give the task more new_tokens."
        )

    def pretrained(self, base: PretrainedModel, model: Model) -> Mapping[str, Any]:
        """Return every weight, tied ones once."""
        return {name: weight.detach() for name, weight in base.causal_lm().named_parameters()}


KINDS: Mapping[Kind, ModelKind] = {Kind.CLASSIFICATION: Classification(), Kind.GENERATION: Generation()}


def model_kind(facts: TaskFacts) -> ModelKind:
    """Return the kind of model that a task is for."""
    return KINDS[facts.kind]
