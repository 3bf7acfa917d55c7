"""An agent that shops: the generated task of models that act, and the shop that answers them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench import seeds
from bench.contracts import GENERATION, GenerationFacts, Kind, Task, TaskSource
from bench.contracts.examples import Examples, Inputs
from bench.tasks.acts import APART, BUY, GOAL, LANGUAGE, SEARCH, SEEN, Act, acts, continued, first, offers
from bench.tasks.dice import Dice, grammar
from bench.tasks.prompts import prompt_task

GOALS = {"train": 1200, "validation": 200, "test": 300}
STEPS = ("search", "courier", "buy")


class Shop:
    """A shop that answers what an agent does. It keeps nothing: all that has happened stands in the prompt.

    * ``search[words]`` lists four products. One is as asked; each of the others differs in its colour, its material or
      its kind. What the words leave open is drawn.
    * A courier, such as ``north[product]``, takes a product that was seen.
    * ``buy[product]`` ends the episode, with a product that a courier has taken.

    Anything else ends the episode without a purchase. The reward is the share of the wanted colour, material and kind
    that the bought product has. The same act at the same prompt is always answered in the same way.

    Attributes:
        on_request: brands that are listed only where a search names them.
        spare: couriers that are offered, and that the expert does not use.
    """

    name = "reward of the shop"
    turns = 4

    def __init__(self) -> None:
        rules = grammar("shop")
        self._rules = rules
        self._couriers = (*rules["couriers"], *rules["spare"])
        self.on_request, self.spare = tuple(rules["on_request"]), tuple(rules["spare"])
        self.system = rules["system"].format(couriers=", ".join(f"{one}[product]" for one in self._couriers))

    def proceed(self, prompt: str, response: str) -> tuple[str, str | None]:
        """Return the act that a response does and the prompt that follows; nothing and None as it may be."""
        act = first(response)
        if act is None:
            return "", None
        if act.name == SEARCH:
            return str(act), continued(prompt, act, self.results(act.argument))
        if act.name in self._couriers and _named(act.argument, _seen(prompt)):
            answer = Dice(seeds.derive("courier", *act)).pick(self._rules["answers"])
            return str(act), continued(prompt, act, answer)
        taken = [one.argument for one in acts(prompt) if one.name in self._couriers]
        return (str(act), None) if act.name == BUY and _named(act.argument, taken) else ("", None)

    def results(self, words: str) -> str:
        """Return the offers for the words of a search."""
        rules, dice, asked = self._rules, Dice(seeds.derive("search", words)), words.split()
        kinds = ("colours", "materials", "items")
        wanted = [next((word for word in asked if word in rules[kind]), None) for kind in kinds]
        if wanted[2] is None:
            return str(rules["nothing"])
        right = [word or dice.pick(rules[kind]) for word, kind in zip(wanted, kinds, strict=True)]
        products = [right]
        for place, kind in enumerate(kinds):
            other = dice.pick([word for word in rules[kind] if word != right[place]])
            products.append([*right[:place], other, *right[place + 1 :]])
        brands = dice.sample(rules["brands"], len(products))
        brand = next((word for word in asked if word in (*rules["brands"], *self.on_request)), None)
        listed = [" ".join((name, *product)) for name, product in zip(brands, products, strict=True)]
        if brand is None:
            return APART.join(dice.sample(listed, len(listed)))
        return APART.join([" ".join((brand, *right)), *dice.sample(listed[1:], len(listed) - 1)])

    def expert(self, prompt: str) -> str:
        """Return the response that is right at a prompt: look for it, ask a courier, buy the first that fits."""
        rules, wanted = self._rules, self.wanted(prompt)
        seen, done = offers(prompt), acts(prompt)
        if not done:
            return self._said(SEARCH, Act(SEARCH, " ".join(wanted)))
        fitting = [one for one in seen if set(wanted) <= set(one.split())]
        if fitting:
            courier = Dice(seeds.derive("choice of a courier", prompt)).pick(rules["couriers"])
            return self._said("courier", Act(courier, fitting[0]))
        return self._said(BUY, Act(BUY, done[-1].argument))

    def wanted(self, prompt: str) -> list[str]:
        """Return colour, material and kind of what the goal of a prompt asks for, as far as it names them."""
        words = prompt.partition("\n")[0].replace(".", " ").split()
        known = (self._rules[kind] for kind in ("colours", "materials", "items"))
        return [word for words_of_kind in known for word in words if word in words_of_kind]

    def scores(self, responses: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
        """Return 1 where a single response does what the right one does, whichever courier and brand, else 0."""
        pairs = zip(map(first, responses), map(first, references), strict=True)
        same = [one is not None and right is not None and self._same(one, right) for one, right in pairs]
        return np.array(same, dtype=np.float64)

    def rewards(self, episodes: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
        """Return from 0 to 1 what was earned by acts up to the end of an episode; 0 where nothing was bought."""
        earned = []
        for episode, reference in zip(episodes, references, strict=True):
            bought = [act for act in acts(episode) if act.name == BUY]
            wanted = _product(first(reference))
            earned.append(len(wanted & _product(bought[0])) / len(wanted) if bought and wanted else 0.0)
        return np.array(earned, dtype=np.float64)

    def _said(self, step: str, act: Act) -> str:
        thought = self._rules["thoughts"][step].format(courier=act.name)
        return f"Thought: {thought} {act}"

    def _same(self, act: Act, right: Act) -> bool:
        couriers = act.name in self._couriers and right.name in self._couriers
        return (act.name == right.name or couriers) and _product(right) <= _product(act)


def _product(act: Act | None) -> set[str]:
    """Return colour, material and kind: the last three words of what an act is about."""
    return set() if act is None else set(act.argument.split()[-3:])


def _seen(prompt: str) -> list[str]:
    lines = [line.removeprefix(SEEN) for line in prompt.split("\n") if line.startswith(SEEN)]
    return [offer for line in lines if APART in line for offer in line.split(APART)]


def _named(argument: str, products: Sequence[str]) -> bool:
    """Whether all the words of an argument are those of one product, which may have others in between."""
    return any(set(argument.split()) <= set(one.split()) for one in products) and len(argument.split()) > 1


class Shopping(TaskSource):
    """An agent that shops: find what the goal asks for, ask a courier, buy it.

    Each example is one step: the goal and all that was done and seen, and a thought with an act as the response. The
    test set is played: from each of its steps on, the model acts in the shop until the episode ends, and the utility is
    the reward. Training and choosing go by single steps, of which one is right if it does what the right one does. The
    groups, of equal size, are the three steps of an episode.
    """

    name: ClassVar[str] = "shop"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = GENERATION

    max_length: int = Field(224, ge=8, le=512, description="tokens kept of a prompt")
    new_tokens: int = Field(40, ge=8, le=128, description="most tokens of a response")

    def load(self) -> Task:
        """Generate the splits; nothing is asked for in two of them."""
        shop, dice, known = Shop(), Dice(2210), set[str]()
        splits = {}
        for split, size in GOALS.items():
            rows: list[tuple[str, str]] = []
            while len(rows) < size * len(STEPS):
                what = _what(dice, grammar("shop"))
                if what not in known:
                    known.add(what)
                    rows += episode(shop, GOAL + dice.pick(grammar("shop")["goals"]).format(what=what))
            prompts, responses = zip(*rows, strict=True)
            inputs = Inputs((shop.system,) * len(rows), prompts)
            splits[split] = Examples(inputs, np.arange(len(rows)) % len(STEPS), responses)
        facts = GenerationFacts(self.name, STEPS, True, self.max_length, shop, self.new_tokens, language=LANGUAGE)
        return prompt_task(facts, splits, max_train=self.max_train, max_test=self.max_test)


def episode(shop: Shop, prompt: str) -> list[tuple[str, str]]:
    """Return each prompt of an episode and the right response to it."""
    steps, following = [], prompt
    while following is not None:
        prompt, response = following, shop.expert(following)
        steps.append((prompt, response))
        _, following = shop.proceed(prompt, response)  # type: ignore[assignment]
    return steps


def _what(dice: Dice, rules: Mapping[str, Any]) -> str:
    return " ".join(str(dice.pick(rules[kind])) for kind in ("colours", "materials", "items"))
