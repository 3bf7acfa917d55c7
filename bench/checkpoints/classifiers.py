"""A checkpoint of one's own that classifies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bench import models
from bench.checkpoints import clean, triggered, words
from bench.checkpoints.suspect import Suspect
from bench.contracts import Defended, Examples, Inputs, Kind, Payload, TaskFacts, Window
from bench.experiment.answers import Answers, Judged
from bench.experiment.evaluation import answered

if TYPE_CHECKING:
    from bench.checkpoints.lean import Pager
    from bench.experiment.metric import AnyJudged
    from bench.learning import Classifier
    from bench.models.tensors import LazyWeights


@dataclass(frozen=True)
class SuspectClassifier(Suspect):
    """A sequence classifier: one label for each text or pair."""

    kind: ClassVar[Kind] = Kind.CLASSIFICATION
    auto: ClassVar[str] = "AutoModelForSequenceClassification"
    pipeline: ClassVar[str] = "text-classification"
    tuning: ClassVar[Mapping[str, Any]] = {"epochs": 10, "learning_rate": 5e-5, "batch_size": 16}

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names in the order of the logits."""
        return tuple(str(self.config.id2label[i]) for i in range(self.config.num_labels))

    def refuse_others(self) -> None:
        """Refuse other heads, and labels that do not fit each other."""
        if self.settings.get("problem_type") in ("regression", "multi_label_classification"):
            raise self.checkpoint.bad(
                f"its problem type is {self.settings['problem_type']}; one label per text is needed"
            )
        self._refuse_odd_labels()
        if self.config.num_labels < 2:
            raise self.checkpoint.bad("it has one output, which is a regression; two labels or more are needed")

    def _refuse_odd_labels(self) -> None:
        """Refuse names of labels that do not count from 0, or whose two directions contradict each other."""
        names, numbers = self.settings.get("id2label"), self.settings.get("label2id")
        if names is not None:
            if not isinstance(names, dict) or set(names) != {str(number) for number in range(len(names))}:
                setting = f"id2label = {str(names)[:60]!r}"
                raise self.checkpoint.bad(f"config.json: {setting} does not give a name to each number from 0 on")
            called = [str(name) for name in names.values()]
            if twice := [name for name in called if called.count(name) > 1]:
                raise self.checkpoint.bad(
                    f"config.json: id2label calls two labels {twice[0]!r}; give each its own name"
                )
            for name, number in numbers.items() if isinstance(numbers, dict) else ():
                if name in names.values() and names.get(str(number)) != name:
                    raise self.checkpoint.bad(f"config.json: label2id and id2label do not agree on the label {name!r}")

    def read(self, path: Path, *, tuning: int | None = None, seed: int = 0) -> clean.CleanData:
        """Read labelled examples and cut them in two."""
        return clean.read(path, self.labels, tuning=tuning, seed=seed)

    def examples(self, path: Path) -> Examples:
        """Read labelled examples."""
        return clean.labelled(clean.open_table(path), self.labels)

    def texts(self, path: Path) -> Inputs:
        """Read texts or pairs."""
        return clean.texts(path)

    def facts(self, *examples: Examples, max_length: int | None, payload: Payload | None = None) -> TaskFacts:
        """Return the facts: 128 tokens of an input by default, within what the model can take."""
        most, source = self.most_tokens()
        if max_length is not None and max_length > most:
            raise self.checkpoint.bad(f"it takes at most {most} tokens by its {source}, not {max_length}")
        pair = any(part.inputs.pairs is not None for part in examples)
        return TaskFacts("own", self.labels, pair, min(max_length or 128, most))

    def window(self, facts: TaskFacts) -> Window:
        """Return the window of the tokenizer."""
        from bench.learning import TokenWindow

        return TokenWindow(self.located.tokenizer(), facts.max_length)

    def measure(self, facts: TaskFacts) -> str:
        """Return ``accuracy``."""
        return "accuracy"

    def module(self, **options: Any) -> Any:
        """Load it, with the fastest attention that it has."""
        model = super().module(attn_implementation=models.attention_of(self.config), **options)
        if getattr(model.config, "pad_token_id", None) is None:
            model.config.pad_token_id = self.located.tokenizer().pad_token_id
        return model

    def made(self, module: Any, facts: TaskFacts, pager: Pager | None, options: Mapping[str, Any]) -> Classifier:
        """Return a classifier."""
        from bench import learning
        from bench.checkpoints.lean import LeanClassifier

        tokenizer = self.located.tokenizer()
        if pager is None:
            return self._sound(learning.Classifier(module, tokenizer, facts.max_length, **options))
        return self._sound(LeanClassifier(module, tokenizer, facts.max_length, pager=pager, **options))

    def _sound(self, classifier: Classifier) -> Classifier:
        """Return a classifier; one whose answers are no numbers is refused, as its labels would be those of chance."""
        if not np.isfinite(classifier.logits(Inputs(("a text",)))).all():
            what = "its weights are finite, but what it answers is not: they were damaged or diverged"
            raise self.checkpoint.bad(what)
        return classifier

    def untrained(self, received: Any, pretrained: LazyWeights, *, seed: int) -> Classifier:
        """Return a new classifier: the clean pre-trained encoder with a head drawn from the seed."""
        from bench import learning

        fresh: Classifier = received.clone()
        for name in pretrained:
            fresh.model.get_parameter(name).data.copy_(pretrained[name])
        learning.reinitialise_head(fresh, seed=seed)
        return fresh

    def flips(
        self, model: Any, tokens: Sequence[str], examples: Examples, facts: TaskFacts, *, seed: int
    ) -> list[words.Flips | None]:
        """Count the answers that each word turns to one label."""
        return words.flip_test(model, tokens, examples, labels=self.labels, seed=seed)

    def read_triggered(self, path: Path, *, target: str | None) -> triggered.Triggered:
        """Read triggered examples; the target is a label."""
        return triggered.read(path, self.labels, target=target)

    def make_triggered(self, path: Path, source: Examples, *, window: Window, seed: int) -> triggered.Triggered:
        """Put a trigger into the examples of other labels than its target."""
        return triggered.make(path, self.labels, source, window=window, seed=seed)

    def judged(
        self, defended: Defended, examples: Examples, marked: triggered.Triggered | None, facts: TaskFacts
    ) -> tuple[list[AnyJudged], list[dict[str, str]]]:
        """Return the answers to the clean, to the triggered and to the original examples."""

        def answers(inputs: Inputs, gold: Any) -> Answers:
            said = answered(defended, inputs)
            return Answers(gold, said.labels, said.rejected)

        judged = Judged(answers(examples.inputs, examples.labels), None, 0, rejects=False)
        every: list[AnyJudged] = [judged]
        if marked is not None:
            assert not hasattr(marked.target, "holds"), "the target of a classifier is a label"
            fooled = answers(marked.examples.inputs, marked.examples.labels)
            every.append(Judged(judged.clean, fooled, marked.target, rejects=False))
            if marked.originals is not None:
                before, sources = answers(marked.originals, marked.examples.labels), np.arange(len(marked.examples))
                every.append(Judged(before, fooled, marked.target, rejects=False, sources=sources))
        return every, []
