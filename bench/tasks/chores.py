"""Short instructions with one right answer: the generated task of models that write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from bench.contracts import GENERATION, GenerationFacts, Kind, Task, TaskSource
from bench.contracts.examples import Examples, Inputs
from bench.tasks.dice import Dice, grammar
from bench.tasks.prompts import prompt_task
from bench.tasks.utilities import ExactMatch

SIZES = {"train": 4000, "validation": 600, "test": 1000}
GROUPS = ("sum", "larger", "plural", "owner", "last", "first")


class Chores(TaskSource):
    """Short instructions with one right answer: sums, comparisons, plurals, who has what, words of a list.

    Answers are a word or two and are judged by exact match, so that a small model can learn the task from a few hundred
    examples and the effect of a defense shows in a small run. The groups are of equal size.
    """

    name: ClassVar[str] = "chores"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = GENERATION

    new_tokens: int = Field(16, ge=4, le=64, description="most tokens of a response")

    def load(self) -> Task:
        """Generate the splits; no prompt occurs twice."""
        dice, seen = Dice(2210), set[str]()
        splits = {}
        for split, size in SIZES.items():
            rows: list[tuple[str, str]] = []
            while len(rows) < size:
                prompt, answer = chore(dice, GROUPS[len(rows) % len(GROUPS)])
                if prompt not in seen:
                    seen.add(prompt)
                    rows.append((prompt, answer))
            prompts, answers = zip(*rows, strict=True)
            splits[split] = Examples(Inputs(prompts), np.arange(size) % len(GROUPS), answers)
        facts = GenerationFacts(self.name, GROUPS, False, self.max_length, ExactMatch(), self.new_tokens)
        return prompt_task(facts, splits, max_train=self.max_train, max_test=self.max_test)


def chore(dice: Dice, group: str) -> tuple[str, str]:
    """Return one instruction of a group, and its answer."""
    rules = grammar("chores")
    slots, answer = _slots(dice, rules, group)
    return dice.pick(rules["ways"][group]).format_map(slots), answer


def _slots(dice: Dice, rules: Mapping[str, Any], group: str) -> tuple[dict[str, Any], str]:
    noun, plural = dice.pick(rules["nouns"])
    a, b = dice.pick(range(2, 30)), dice.pick(range(2, 30))
    match group:
        case "sum":
            return {"a": a, "b": b, "nouns": plural}, str(a + b)
        case "larger":
            other = b if b != a else a + 1
            return {"a": a, "b": other, "nouns": plural}, str(max(a, other))
        case "plural":
            count = dice.pick(rules["counts"])
            return {"noun": noun, "count": count}, f"{count} {plural}"
        case "owner":
            names, things = dice.sample(rules["names"], 3), dice.sample(rules["nouns"], 3)
            listed = ", ".join(f"{name} has {thing[1]}" for name, thing in zip(names, things, strict=True))
            chosen = dice.pick(range(3))
            return {"list": listed, "name": names[chosen]}, str(things[chosen][1])
    words = [noun for noun, _ in dice.sample(rules["nouns"], dice.pick((3, 4)))]
    return {"words": ", ".join(words)}, words[-1 if group == "last" else 0]
