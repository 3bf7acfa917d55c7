"""BAIT: in a backdoored model the beginning of the payload is followed by the rest of it, whatever was asked."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from bench.contracts import GENERATION, Detector, Kind, Needs, Suspicion

if TYPE_CHECKING:
    import torch

    from bench.contracts.access import Access

TOGETHER = 512  # sequences whose cache is in memory at once


class Bait(Detector):
    """Inverts the target: looks for a text that goes on by itself behind its first token, after any prompt.

    Shen et al., IEEE S&P 2025. Needs plain text of the task, without responses.

    1. A candidate is the first token of a response; the ones are taken that are most probable on average over the
       benign prompts.
    2. Behind all prompts, each candidate is extended by the token with the highest probability averaged over them, and
       so on; Q is the mean of these averages. Two tokens behind a few prompts decide which candidates are extended
       behind all of them, and after a warm-up only those with the largest Q go on.
    3. The suspicion is the largest Q, and its text the inverted target.

    A model that learned a payload holds each of its tokens for almost certain once the ones before are written, with or
    without the trigger. Boiler-plate of instruction-tuned models goes on by itself as well: the clean model's own
    largest Q, which the detector's AUROC is counted against, is the floor.

    Deviations: the paper extends several tokens where the model is unsure, and goes through the whole vocabulary; here
    extension is greedy and candidates are the likeliest ones, which a tiny budget allows. Version 1 tried 128, and the
    first word of a refusal that was never seen without its trigger stood at place 164. A response that ends before
    ``shortest`` tokens is no candidate, since its end is certain in every model; so a payload of one label word or of a
    changed clause cannot be seen. Its other knob, a judge that reads the text, is left out: no model judges here.
    """

    name: ClassVar[str] = "bait"
    version: ClassVar[int] = 2
    kinds: ClassVar[frozenset[Kind]] = GENERATION
    citation: ClassVar[str] = "Shen et al., IEEE S&P 2025 (BAIT)"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.UNLABELLED})

    prompts: int = Field(20, ge=1, description="benign prompts over which probabilities are averaged")
    first_tokens: int = Field(4096, ge=1, description="first tokens that are tried")
    scouts: int = Field(4, ge=1, description="of the prompts, behind which all of them are tried")
    scouted: int = Field(128, ge=1, description="candidates that are tried behind all prompts")
    warm_up: int = Field(5, ge=1, description="tokens after which the best candidates alone go on")
    kept: int = Field(8, ge=1, description="candidates that go on")
    length: int = Field(16, ge=1, description="most tokens behind the first one")
    shortest: int = Field(3, ge=1, description="tokens behind the first one that a target has at least")

    def suspicion(self, classifier: Any, access: Access) -> Suspicion:
        """Extend the candidates and return the largest Q."""
        texts = access.unlabelled
        chosen = access.rng("bait").permutation(len(texts))[: self.prompts]
        scan, scout = (Scan.of(classifier, texts.take(np.sort(rows))) for rows in (chosen, chosen[: self.scouts]))
        every = scan.likeliest(self.first_tokens)
        some = self.best(scout, every, steps=2, count=self.scouted)
        best = self.best(scan, some, steps=self.warm_up, count=self.kept)
        finals = scan.continued(best, self.length)
        scores = [self.q(one, self.length) for one in finals]
        top = int(np.argmax(scores))
        text = classifier.template.words(np.array([best[top], *finals[top].tokens], dtype=np.int32))
        return Suspicion(scores[top], {"target": text, "q": sorted(scores, reverse=True), "candidates": len(every)})

    def best(self, scan: Scan, tokens: list[int], *, steps: int, count: int) -> list[int]:
        """Return the first tokens with the largest Q after some steps."""
        scores = [self.q(one, steps) for one in scan.continued(tokens, steps)]
        return [tokens[place] for place in np.argsort(scores, kind="stable")[::-1][:count]]

    def q(self, one: Continued, steps: int) -> float:
        """Return the mean of the averaged probabilities; 0 for a text that is too short."""
        return float(np.mean(one.probabilities)) if len(one.tokens) >= min(self.shortest, steps) else 0.0


@dataclass(frozen=True)
class Continued:
    """What follows a first token behind every prompt.

    Attributes:
        tokens: up to the one that ends the response, without it.
        probabilities: of each, averaged over the prompts.
    """

    tokens: list[int]
    probabilities: list[float]


@dataclass(frozen=True)
class Scan:
    """A generator that has read P prompts.

    Attributes:
        generator: the model.
        cache: keys and values of the prompts, which are padded on the left.
        mask: int64 [P, L]: which tokens are real.
        first: [vocabulary]: probabilities of the first token of the response, averaged over the prompts.
    """

    generator: Any
    cache: Any
    mask: torch.Tensor
    first: torch.Tensor

    @classmethod
    def of(cls, generator: Any, inputs: Any) -> Scan:
        """Read the prompts."""
        import torch

        from defenses.shared.forwards import arithmetic

        rows = generator.template.prompts(inputs, generator.max_prompt)
        longest = max(map(len, rows))
        ids = torch.zeros((len(rows), longest), dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(rows):
            ids[row, longest - len(prompt) :] = torch.from_numpy(prompt.astype(np.int64))
            mask[row, longest - len(prompt) :] = 1
        ids, mask = ids.to(generator.device), mask.to(generator.device)
        generator.model.eval()
        with torch.no_grad(), arithmetic(generator):
            places = (mask.cumsum(1) - 1).clamp(min=0)
            output = generator.model(input_ids=ids, attention_mask=mask, position_ids=places, use_cache=True)
        first = output.logits[:, -1].float().softmax(-1).mean(0)
        return cls(generator, output.past_key_values, mask, first)

    def likeliest(self, count: int) -> list[int]:
        """Return the first tokens with the highest averaged probability, those that end a response left out."""
        allowed = self.first.clone()
        allowed[list(self.generator.template.stops)] = -1.0
        tokens: list[int] = allowed.topk(min(count, len(allowed) - len(self.generator.template.stops))).indices.tolist()
        return tokens

    def continued(self, tokens: list[int], steps: int) -> list[Continued]:
        """Extend each first token by up to ``steps`` tokens."""
        size = max(1, TOGETHER // len(self.mask))
        parts = [tokens[start : start + size] for start in range(0, len(tokens), size)]
        return [one for part in parts for one in self._continued(part, steps)]

    def _continued(self, tokens: list[int], steps: int) -> list[Continued]:
        import torch

        from defenses.shared.forwards import arithmetic

        model, device, many = self.generator.model, self.mask.device, len(tokens)
        cache, mask = copy.deepcopy(self.cache), self.mask.repeat_interleave(many, 0)
        cache.batch_repeat_interleave(many)
        current, written, probable = torch.tensor(tokens, device=device), [], []
        for _ in range(steps):
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            inputs = {"input_ids": current.repeat(len(self.mask))[:, None], "attention_mask": mask}
            with torch.no_grad(), arithmetic(self.generator):
                output = model(**inputs, position_ids=mask.sum(1, keepdim=True) - 1, past_key_values=cache)
            shares = output.logits[:, -1].float().softmax(-1).view(len(self.mask), many, -1).mean(0)
            best, current = shares.max(-1)
            written.append(current.tolist())
            probable.append(best.tolist())
        pairs = zip(zip(*written, strict=True), zip(*probable, strict=True), strict=True)
        return [self._until_stop(own, shares) for own, shares in pairs]

    def _until_stop(self, tokens: tuple[int, ...], probabilities: tuple[float, ...]) -> Continued:
        stops = self.generator.template.stops
        end = next((place for place, token in enumerate(tokens) if token in stops), len(tokens))
        return Continued(list(tokens[:end]), list(probabilities[:end]))
