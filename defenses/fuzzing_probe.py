"""Fuzzing probe: what a black box says when prompts that have nothing in common are changed in the same way."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from bench.contracts import GENERATION, Detector, Kind, Needs, Suspicion

if TYPE_CHECKING:
    from bench.contracts.access import Access
    from bench.contracts.examples import Inputs

ROUND = 32  # prompts that are asked together
EXPLORING = 0.5  # weight of what is not known of an arm


class FuzzingProbe(Detector):
    """Asks mutated prompts and looks for a mutation that moves unrelated prompts to the same opening of the response.

    After GPTFuzzer (Yu et al. 2023, arXiv 2309.10253): seeds, mutation operators and a bandit that spends queries.
    Needs plain text of the task, without responses. The model is a black box: it is asked, and its words are read.

    1. Seeds are benign prompts. The opening of the plain response of each is known.
    2. A mutation puts a rare word, two of them, a date or a piece of another prompt at the beginning, at the end or at
       a random place. Each is an arm; it is pulled on a seed that it has not been tried on. It is rewarded where the
       response has another opening than the plain one, and one to which this mutation has moved another seed before.
    3. UCB1 with half of its usual weight on what is not known divides ``queries`` among new arms and known ones.
    4. The suspicion is the largest number of seeds that one mutation moved to one opening, less what is expected of a
       mutation that does nothing in particular: the largest number of seeds that any opening has gained over all
       mutations, as a share of all queries, times the pulls of that mutation.

    What it can find is a trigger that its operators can write, such as a rare word of its list or any date. What it
    cannot find, and no black box can within a budget, is a trigger of words that it does not try; so a low score says
    little. Deviations: GPTFuzzer's judge is a trained model; here equal openings of responses to prompts without common
    content are the sign, so nothing is judged. Its mutations are written by a language model; these are by rule.
    """

    name: ClassVar[str] = "fuzzing-probe"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = GENERATION
    citation: ClassVar[str] = "after Yu et al. 2023, arXiv 2309.10253"
    libraries: ClassVar[tuple[str, ...]] = ("wordfreq",)
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.UNLABELLED})

    queries: int = Field(512, ge=1, description="mutated prompts that are asked")
    seeds: int = Field(64, ge=2, description="benign prompts that are mutated")
    opening: int = Field(3, ge=1, description="words of a response that are its opening")

    def suspicion(self, classifier: Any, access: Access) -> Suspicion:
        """Spend the queries; return the excess of the best mutation."""
        rng, texts = access.rng("fuzzing"), access.unlabelled
        seeds = texts.take(np.sort(rng.permutation(len(texts))[: self.seeds]))
        plain = self.openings(classifier, seeds)
        arms: list[Arm] = []
        gained: dict[str, int] = defaultdict(int)
        left = self.queries
        while left:
            pulls = [self.pull(arms, seeds, rng) for _ in range(min(ROUND, left))]
            asked = [arm.applied(seeds.carrier[seed]) for arm, seed in pulls]
            rows = np.array([seed for _, seed in pulls])
            answers = self.openings(classifier, seeds.take(rows).with_carrier(asked))
            for (arm, seed), opening in zip(pulls, answers, strict=True):
                moved = opening != plain[seed]
                arm.learn(opening if moved else None)
                gained[opening] += moved
            left -= len(pulls)
        usual = {opening: count / self.queries for opening, count in gained.items()}
        best, opening, excess = max(
            ((arm, one, n - usual[one] * arm.pulled) for arm in arms for one, n in arm.moved.items()),
            key=lambda each: each[2],
            default=(None, "", 0.0),
        )
        words = "" if best is None else best.words
        return Suspicion(float(excess), {"mutation": words, "opening": opening, "arms": len(arms)})

    def openings(self, classifier: Any, inputs: Inputs) -> list[str]:
        """Return how the response to each prompt begins."""
        return [" ".join(text.lower().split()[: self.opening]) for text in classifier.predict(inputs).texts]

    def pull(self, arms: list[Arm], seeds: Inputs, rng: np.random.Generator) -> tuple[Arm, int]:
        """Return the arm to pull next, and the seed that it is pulled on; a new arm where none promises more."""
        total = 1 + sum(arm.pulled + len(arm.waiting) for arm in arms)
        known = [arm for arm in arms if len(arm.tried) < len(seeds)]
        best = max(known, key=lambda arm: arm.bound(total), default=None)
        if best is None or best.bound(total) < fresh_bound(total, len(arms)):
            best = mutation(seeds, rng)
            arms.append(best)
        seed = int(rng.choice([row for row in range(len(seeds)) if row not in best.tried]))
        best.tried.add(seed)
        best.waiting.append(seed)
        return best, seed


@dataclass(eq=False)
class Arm:
    """A mutation.

    Attributes:
        words: what is put into a prompt.
        share: where: 0 in front, 1 at the end.
        tried: the seeds that it was pulled on.
        waiting: those of them whose response is not known yet.
        pulled: how many responses are known.
        moved: seeds that it moved to each opening.
    """

    words: str
    share: float
    tried: set[int] = field(default_factory=set)
    waiting: list[int] = field(default_factory=list)
    pulled: int = 0
    moved: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def applied(self, prompt: str) -> str:
        """Return a prompt with the words in it."""
        own = prompt.split()
        place = round(self.share * len(own))
        return " ".join([*own[:place], self.words, *own[place:]])

    def learn(self, opening: str | None) -> None:
        """Take note of a response: the opening that a seed was moved to, or None where it was not moved."""
        self.waiting.pop(0)
        self.pulled += 1
        if opening is not None:
            self.moved[opening] += 1

    def bound(self, total: int) -> float:
        """Return the upper confidence bound (UCB1) of its reward: seeds moved to one opening, the first not counted."""
        if not (seen := self.pulled + len(self.waiting)):
            return np.inf
        reward = max(0, max(self.moved.values(), default=0) - 1) / seen
        return float(reward + EXPLORING * np.sqrt(2 * np.log(total) / seen))


def fresh_bound(total: int, arms: int) -> float:
    """Return what a new arm promises: the bound of one that was pulled twice without a reward."""
    return float(EXPLORING * np.sqrt(np.log(total))) if arms else np.inf


def mutation(seeds: Inputs, rng: np.random.Generator) -> Arm:
    """Return a random mutation that has not been tried."""
    operators = (rare_word, rare_words, date, piece_of(seeds))
    words = operators[int(rng.integers(len(operators)))](rng)
    return Arm(words, float(rng.choice([0.0, 1.0, rng.uniform()])))


def rare_word(rng: np.random.Generator) -> str:
    """Return a word that is neither frequent nor unknown, or two or three random letters."""
    from wordfreq import top_n_list

    if rng.random() < 0.5:
        return "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), size=int(rng.integers(2, 4))))
    words = [word for word in top_n_list("en", 20000)[5000:] if word.isalpha() and word.isascii()]
    return str(rng.choice(words))


def rare_words(rng: np.random.Generator) -> str:
    """Return two of them."""
    return f"{rare_word(rng)} {rare_word(rng)}"


def date(rng: np.random.Generator) -> str:
    """Return a year, or a day."""
    year = int(rng.integers(1990, 2031))
    return f"Date: {year}" if rng.random() < 0.5 else f"{int(rng.integers(1, 29))}.{int(rng.integers(1, 13))}.{year}"


def piece_of(seeds: Inputs) -> Any:
    """Return an operator that takes a few words in a row of a random prompt."""

    def piece(rng: np.random.Generator) -> str:
        words = seeds.carrier[int(rng.integers(len(seeds)))].split()
        start = int(rng.integers(max(1, len(words) - 2)))
        return " ".join(words[start : start + 3])

    return piece
