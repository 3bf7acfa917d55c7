"""A checkpoint of one's own that writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bench import seeds
from bench.checkpoints import clean, prompts, triggered, words
from bench.checkpoints.suspect import LEAST, Suspect
from bench.contracts import Defended, Examples, GenerationFacts, Inputs, Kind, Payload, Window
from bench.contracts.examples import stratified_order
from bench.experiment import written
from bench.experiment.answers import JudgedText
from bench.tasks.utilities import ExactMatch, RougeL

if TYPE_CHECKING:
    from bench.checkpoints.lean import Pager
    from bench.experiment.metric import AnyJudged
    from bench.learning import Generator, Template
    from bench.models.tensors import LazyWeights

SHORT = 5  # words of the longest response that is judged by exact match
PROMPT, RESPONSE = 128, 32  # tokens, at least
FOR_A_TRIGGER = 64  # tokens beside the longest prompt
TRIED = 16  # prompts that each word is put into
BEGINNING = 3  # words by which responses are told apart
SHOWN = 5  # prompts of a judgement


@dataclass(frozen=True)
class SuspectGenerator(Suspect):
    """A causal language model with a chat template."""

    kind: ClassVar[Kind] = Kind.GENERATION
    auto: ClassVar[str] = "AutoModelForCausalLM"
    pipeline: ClassVar[str] = "text-generation"
    tuning: ClassVar[Mapping[str, Any]] = {"epochs": 2, "learning_rate": 5e-5, "batch_size": 16}

    def refuse_others(self) -> None:
        """Refuse a model without a chat template or without a token that ends a response."""
        self.template  # noqa: B018  (refuses)

    @cached_property
    def template(self) -> Template:
        """Its chat template."""
        from bench.learning import Template

        return Template(self.located.tokenizer(), name=self.located.name)

    def read(self, path: Path, *, tuning: int | None = None, seed: int = 0) -> clean.CleanData:
        """Read prompts with their right responses and cut them in two."""
        return clean.cut(path, prompts.read(path), tuning=tuning, seed=seed)

    def examples(self, path: Path) -> Examples:
        """Read prompts with their right responses."""
        return prompts.read(path)

    def texts(self, path: Path) -> Inputs:
        """Read prompts."""
        return prompts.prompts(path)

    def facts(self, *examples: Examples, max_length: int | None, payload: Payload | None = None) -> GenerationFacts:
        """Return the facts: room for the longest prompt and a trigger in it, and for the longest response.

        Responses are judged by exact match where all right ones are short, by ROUGE-L otherwise.
        """
        references = [text for part in examples for text in part.references]
        short = all(len(text.split()) <= SHORT for text in references)
        asked = [len(ids) for part in examples for ids in self.template.prompts(part.inputs, room=1 << 30)]
        wanted = [] if payload is None else [payload.respond(text) for text in references]
        said = [len(ids) for ids in self.template.responses([*references, *wanted])]
        prompt = max_length or max(PROMPT, max(asked, default=0) + FOR_A_TRIGGER)
        response = max(RESPONSE, max(said, default=0))
        most, source = self.most_tokens()
        if prompt + response > most:
            needed, room = f"{prompt} of a prompt and {response} of a response are wanted", most - response
            advice = f"say --max-length {room} or less" if room >= LEAST else "leave out the longest responses"
            raise self.checkpoint.bad(f"it takes at most {most} tokens by its {source}, but {needed}; {advice}")
        system = any(part.inputs.pairs is not None for part in examples)
        utility = ExactMatch() if short else RougeL()
        return GenerationFacts("own", prompts.GROUPS, system, prompt, utility, response)

    def window(self, facts: GenerationFacts) -> Window:
        """Return the window of the chat template."""
        from bench.learning import PromptWindow

        return PromptWindow(self.template, facts.max_length)

    def measure(self, facts: GenerationFacts) -> str:
        """Return the name of the utility."""
        return facts.utility.name

    def module(self, **options: Any) -> Any:
        """Load it; nothing of how it wants to generate is kept."""
        from transformers import GenerationConfig

        model = super().module(**options)
        plain: Any = GenerationConfig
        model.generation_config = plain()
        return model

    def made(self, module: Any, facts: GenerationFacts, pager: Pager | None, options: Mapping[str, Any]) -> Generator:
        """Return a generator."""
        from bench import learning
        from bench.checkpoints.lean import LeanGenerator

        rooms: dict[str, Any] = {"max_prompt": facts.max_length, "max_response": facts.new_tokens}
        if pager is None:
            return learning.Generator(module, self.template.tokenizer, self.template, **rooms, **options)
        return LeanGenerator(module, self.template.tokenizer, self.template, pager=pager, **rooms, **options)

    def untrained(self, received: Any, pretrained: LazyWeights, *, seed: int) -> Generator:
        """Return the clean pre-trained model."""
        fresh: Generator = received.clone()
        for name in pretrained:
            fresh.model.get_parameter(name).data.copy_(pretrained[name])
        return fresh

    def flips(
        self, model: Any, tokens: Sequence[str], examples: Examples, facts: GenerationFacts, *, seed: int
    ) -> list[words.Flips | None]:
        """Count the responses that begin the same way with a word and began otherwise without it."""
        order = stratified_order(examples.labels, seeds.rng("flip test", "own", seed))[:TRIED]
        few, window = examples.take(order).inputs, self.window(facts)
        before = model.predict(few).texts
        tested: list[words.Flips | None] = []
        for token in tokens:
            word = words.spelled(model.tokenizer, token)
            if word is None:
                tested.append(None)
                continue
            with_word = words.inserted(few, word, window=window, seed=seed)
            tested.append(drawn(with_word, before, model.predict(with_word).texts))
        return tested

    def read_triggered(self, path: Path, *, target: str | None) -> triggered.Triggered:
        """Read triggered prompts; the target is a payload."""
        return prompts.read_triggered(path, target=target)

    def make_triggered(self, path: Path, source: Examples, *, window: Window, seed: int) -> triggered.Triggered:
        """Put a trigger into prompts whose right response does not hold its payload."""
        return prompts.make_triggered(path, source, window=window, seed=seed)

    def judged(
        self, defended: Defended, examples: Examples, marked: triggered.Triggered | None, facts: GenerationFacts
    ) -> tuple[list[AnyJudged], list[dict[str, str]]]:
        """Return the responses to the clean, to the triggered and to the original prompts."""
        payload = None if marked is None else marked.target
        assert payload is None or isinstance(payload, Payload), "the target of a generator is a payload"

        def answers(asked: Examples) -> dict[str, Any]:
            return written.judged_on(defended, asked, facts, payload)

        said = answers(examples)
        said |= {"loss": written.losses(defended, examples), "guess": written.guesses(facts, examples.references)}
        plain = written.decode(written.encode(said))
        every: list[AnyJudged] = [JudgedText(plain, None, rejects=False)]
        shown = self._shown(examples, plain, "clean")
        if marked is not None:
            fooled = written.decode(written.encode(answers(marked.examples)))
            every.append(JudgedText(plain, fooled, rejects=False))
            shown += self._shown(marked.examples, fooled, "triggered")
            if marked.originals is not None:
                rows = np.arange(len(marked.examples), dtype=np.int32)
                original = Examples(marked.originals, marked.examples.labels, marked.examples.responses)
                before = written.decode(written.encode(answers(original)))
                every.append(JudgedText(before, replace(fooled, sources=rows), rejects=False))
        return every, shown

    def _shown(self, examples: Examples, said: Any, kind: str) -> list[dict[str, str]]:
        """Return the first prompts with their right responses and what was written."""
        rows = zip(examples.inputs.carrier, examples.references, said.tokens, strict=True)
        return [
            {"kind": kind, "prompt": asked, "reference": right, "response": self.template.words(ids)}
            for asked, right, ids in list(rows)[:SHOWN]
        ]


def drawn(inputs: Inputs, before: Sequence[str], after: Sequence[str]) -> words.Flips:
    """Return how many responses with a word in the prompt begin the same way and began otherwise without it."""
    starts = [tuple(" ".join(text.split()[:BEGINNING]) for text in pair) for pair in zip(before, after, strict=True)]
    gained = Counter(new for old, new in starts if old != new)
    differ = sum(old != new for old, new in zip(before, after, strict=True))
    if not gained:
        return words.Flips("", 0, len(starts), differ=differ)
    start, changed = gained.most_common(1)[0]
    others = sum(old != start for old, _ in starts)
    row = next(row for row, (old, new) in enumerate(starts) if new == start != old)
    example = {"prompt": inputs.carrier[row], "before": before[row], "after": after[row]}
    return words.Flips(repr(start), changed, others, differ=differ, example=example)
