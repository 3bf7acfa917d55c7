"""RAP: a perturbation that shakes clean predictions but not triggered ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from bench import learning
from bench.contracts import Classifier, Defended, Defense, Needs, Predictions, softmax
from bench.contracts.examples import Inputs
from defenses.shared.filtering import Screened, low_quantile

if TYPE_CHECKING:
    import torch

    from bench.contracts.access import Access

POPULAR = frozenset({"cf", "mn", "bb", "tq", "mb", "mm", "pt", "qt", "bx", "hh", "vg", "xyz", "trigger"})
RAREST = 50
SCALES = (1.0, 2.0, 4.0, 8.0)


class Rap(Defense):
    """Inserts a word whose embedding was trained to lower clean predictions, and rejects inputs that it does not shake.

    Yang et al., EMNLP 2021 (arXiv 2110.07831). Needs clean examples and white-box access to the embeddings.

    1. Only the embedding of the RAP word is trained, on clean examples of a protected label, such that the word at the
       start of the text changes the probability of the label by a value in [-upper, -lower]:
       ``scale * mean relu(diff + lower) + mean relu(-upper - diff)``. As in the authors' code the gradient is never set
       to zero and the norm of the embedding is restored after every step.
    2. The threshold is a quantile of the drops of clean examples. Where it is negative, the scale is doubled and
       the embedding trained again.
    3. An input predicted as that label is rejected if its probability drops by less than the threshold.

    The target label is unknown, so every label gets an embedding and a threshold of its own. The word is drawn from
    the rarest whole words of the vocabulary that the clean sample does not have, never one of the triggers that the
    literature uses. Deviations: the embedding is trained on one half of the clean labels, the threshold comes from the
    other; steps instead of epochs, and more of them than the paper's five epochs have: with some thirty clean sentences
    of a label, fewer often leave the threshold at zero.
    """

    name: ClassVar[str] = "rap"
    version: ClassVar[int] = 5
    citation: ClassVar[str] = "Yang et al., EMNLP 2021, arXiv 2110.07831"
    libraries: ClassVar[tuple[str, ...]] = ("wordfreq",)
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN})
    purifies: ClassVar[bool] = False
    kind: ClassVar[Any] = "filter"

    word: str | None = Field(None, description="RAP word, one token; drawn from the rare ones when not given")
    lower: float = Field(0.1, ge=0, le=1, description="least drop of a clean probability")
    upper: float = Field(0.3, ge=0, le=1, description="largest drop of a clean probability")
    steps: int = Field(400, ge=0, description="steps for one label and scale; fewer once every drop is in the range")
    learning_rate: float = Field(1e-2, gt=0, description="step size")
    batch_size: int = Field(32, ge=1, description="examples a step")
    frr: float = Field(0.05, ge=0, lt=1, description="share of clean inputs of a label that may be rejected")

    def defend(self, classifier: Classifier, access: Access) -> Defended:
        """Train one embedding and set one threshold for each label."""
        word, token = self.chosen_word(classifier, access)
        table = classifier.model.get_input_embeddings().weight
        original = table.data[token].clone()
        rows: dict[int, torch.Tensor] = {}
        thresholds: dict[int, float] = {}
        protected, others = access.halves
        held_out = Defended(classifier).predict(others.inputs)

        def drops(inputs: Inputs, verdicts: Predictions, label: int) -> np.ndarray:
            table.data[token] = rows[label]
            try:
                shaken = softmax(classifier.logits(prefixed(inputs, word)))
            finally:
                table.data[token] = original
            fallen: np.ndarray = verdicts.probabilities[:, label] - shaken[:, label]
            return fallen

        def score(inputs: Inputs, verdicts: Predictions) -> np.ndarray:
            margins = np.zeros(len(inputs))
            for label in np.unique(verdicts.labels):
                chosen = np.flatnonzero(verdicts.labels == label)
                margins[chosen] = drops(inputs.take(chosen), part(verdicts, chosen), label) - thresholds[int(label)]
            return margins

        scales = {}
        for label in range(len(access.facts.labels)):
            own = protected.take(np.flatnonzero(protected.labels == label)).inputs
            chosen = np.flatnonzero(held_out.labels == label)
            for scale in SCALES:
                rows[label] = self.trained(classifier, token, prefixed(own, word), own, label, scale, access)
                fallen = drops(others.inputs.take(chosen), part(held_out, chosen), label)
                thresholds[label] = low_quantile(fallen, self.frr)
                scales[str(label)] = scale
                if thresholds[label] >= 0 or not len(chosen):
                    break
        finite = {str(k): (v if np.isfinite(v) else None) for k, v in thresholds.items()}
        notes = {"word": word, "thresholds": finite, "scales": scales, "forward_passes": 2}
        return Screened(classifier=classifier, notes=notes, score=score, threshold=0.0)

    def trained(
        self,
        classifier: Classifier,
        token: int,
        shaken: Inputs,
        plain: Inputs,
        label: int,
        scale: float,
        access: Access,
    ) -> torch.Tensor:
        """Return the embedding of the RAP word that protects a label, float [hidden]; weights stay as they are."""
        import torch

        from defenses.shared.forwards import arithmetic, padded

        model = classifier.model.eval()
        table = model.get_input_embeddings()
        row = table.weight.data[token].clone()
        norm, total = row.norm(), torch.zeros_like(row)
        before = torch.from_numpy(softmax(classifier.logits(plain))[:, label].copy()).to(row.device)
        rng, waiting = access.rng(f"rap {label} {scale}"), []
        for _ in range(self.steps if len(plain) else 0):
            waiting = waiting or learning.shuffled(len(plain), self.batch_size, epochs=1, rng=rng)
            chosen = waiting.pop()
            leaf = row.clone().requires_grad_()
            batch = padded(classifier, shaken, chosen)
            words = table(batch["input_ids"]).detach()
            words = torch.where((batch["input_ids"] == token)[..., None], leaf, words)
            with arithmetic(classifier):
                probabilities = learning.logits(model, batch, embeddings=words).softmax(-1)[:, label]
            diff = probabilities - before[chosen]
            loss = scale * (diff + self.lower).relu().mean() + (-self.upper - diff).relu().mean()
            if float(loss.detach()) == 0.0 and len(chosen) == len(plain):
                break
            total += torch.autograd.grad(loss, leaf)[0]
            row = row - self.learning_rate * total
            row = row * (norm / row.norm())
        return row

    def chosen_word(self, classifier: Classifier, access: Access) -> tuple[str, int]:
        """Return the RAP word and its token.

        Raises:
            ValueError: the given word is not one token, or the vocabulary has no word to choose from.
        """
        tokenizer = classifier.tokenizer

        def token_of(word: str) -> int | None:
            ids = tokenizer(word, add_special_tokens=False)["input_ids"]
            return ids[0] if len(ids) == 1 and ids[0] != tokenizer.unk_token_id else None

        if self.word is not None:
            token = token_of(self.word)
            if token is None:
                raise ValueError(f"the RAP word {self.word!r} is not one token of this model")
            return self.word, token
        from wordfreq import word_frequency

        from defenses.shared.forwards import batches

        used = {int(i) for _, b in batches(classifier, access.clean.inputs) for i in b["input_ids"].unique()}
        names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        words = [
            name
            for i, name in enumerate(names)
            if name and name.isascii() and name.isalpha() and name.islower() and len(name) > 2 and i not in used
        ]
        words = sorted(set(words) - POPULAR, key=lambda word: (word_frequency(word, "en"), word))
        rare = [word for word in words[: 2 * RAREST] if token_of(word) is not None][:RAREST]
        if not rare:
            raise ValueError("the vocabulary has no whole word that the clean sample lacks; give one in `word`")
        word = str(access.rng("rap word").choice(rare))
        return word, int(token_of(word) or 0)


def prefixed(inputs: Inputs, word: str) -> Inputs:
    """Return the inputs with a word before the (first) text."""
    return Inputs(tuple(f"{word} {text}" for text in inputs.texts), inputs.pairs)


def part(verdicts: Predictions, rows: np.ndarray) -> Predictions:
    """Return some rows of verdicts."""
    return Predictions(verdicts.labels[rows], verdicts.probabilities[rows], verdicts.rejected[rows])
