"""Text before a prompt: clean examples that are chosen for it, or filler of the same length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bench import seeds
from bench.contracts import Defended, Examples, Responses
from bench.contracts.examples import Inputs
from bench.learning import Generator

Selection = Literal["random", "similar"]


def roomy(generator: Any) -> Any:
    """Return a generator with the same weights and as much room for prompts as its context leaves."""
    context = getattr(generator.model.config, "max_position_embeddings", None)
    room = generator.max_prompt if context is None else min(int(context), 4096) - generator.max_response
    return Generator(
        generator.model,
        generator.tokenizer,
        generator.template,
        max_prompt=max(generator.max_prompt, room),
        max_response=generator.max_response,
        device=generator.device,
        precision=generator.precision,
    )


class Preface:
    """What is put before prompts: clean examples as text, one a line.

    Args:
        pool: clean prompts with their responses.
        count: examples before each prompt.
        selection: random ones, or those most similar to the prompt by the cosine of TF-IDF.
        form: of an example, with ``{prompt}`` and ``{response}``, and ``{reason}`` where there are reasons.
        reasons: a text for each example of the pool.
        filler: replace the words by random ones of the pool, as many of them.
        seed: of what is drawn; the same prompts get the same text.
    """

    def __init__(
        self,
        pool: Examples,
        *,
        count: int,
        selection: Selection,
        form: str,
        seed: int,
        reasons: Sequence[str] | None = None,
        filler: bool = False,
    ) -> None:
        rows = zip(pool.inputs.carrier, pool.references, reasons or [""] * len(pool), strict=True)
        self.texts = [form.format(prompt=prompt, response=response, reason=reason) for prompt, response, reason in rows]
        self.words = " ".join(self.texts).split()
        self.pool, self.seed, self.filler = pool, seed, filler
        self.count, self.selection = min(count, len(pool)), selection

    def before(self, inputs: Inputs) -> list[str]:
        """Return the text that goes before each prompt; empty where there are no examples."""
        rng = seeds.rng("preface", self.seed)
        chosen = self._similar(inputs) if self.selection == "similar" else self._random(inputs, rng)
        texts = ["\n".join(self.texts[row] for row in rows) for rows in chosen]
        return [self._filled(text, rng) for text in texts] if self.filler else texts

    def _random(self, inputs: Inputs, rng: np.random.Generator) -> list[list[int]]:
        return [rng.permutation(len(self.pool))[: self.count].tolist() for _ in range(len(inputs))]

    def _similar(self, inputs: Inputs) -> list[list[int]]:
        """Return the most similar rows of each prompt, the nearest last: next to the prompt."""
        pool, asked = self.pool.inputs.carrier, inputs.carrier
        documents = [set(text.lower().split()) for text in pool]
        spread: dict[str, int] = {}
        for words in documents:
            for word in words:
                spread[word] = spread.get(word, 0) + 1
        weight = {word: float(np.log((1 + len(pool)) / (1 + n)) + 1) for word, n in spread.items()}
        norms = [sum(weight[word] ** 2 for word in words) ** 0.5 for words in documents]
        rows = []
        for text in asked:
            own = set(text.lower().split())
            shared = [sum(weight[word] ** 2 for word in words & own) for words in documents]
            scores = np.array([value / max(norm, 1e-12) for value, norm in zip(shared, norms, strict=True)])
            rows.append(np.argsort(-scores, kind="stable")[: self.count][::-1].tolist())
        return rows

    def _filled(self, text: str, rng: np.random.Generator) -> str:
        lines = [line.split() for line in text.split("\n")]
        return "\n".join(" ".join(rng.choice(self.words, size=len(line)).tolist()) for line in lines)


@dataclass(kw_only=True)
class Prefixed(Defended):
    """Answers prompts with a text before each.

    Attributes:
        reader: the model, with room for longer prompts.
        before: makes the texts.
    """

    reader: Any
    before: Preface

    def predict(self, inputs: Inputs) -> Responses:
        """Put the text before each prompt, then answer."""
        texts = zip(self.before.before(inputs), inputs.carrier, strict=True)
        prompts = [f"{text}\n\n{prompt}" if text else prompt for text, prompt in texts]
        responses: Responses = self.reader.predict(inputs.with_carrier(prompts))
        return responses
