"""Pairs of questions that ask the same (1) or something different (0), from the grammar in ``questions.yaml``.

Different ones are about different things. The hard ones among them have mostly the same words: roles are swapped, the
opposite is asked, one filler changes, or another intent meets the same fillers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.tasks.dice import Dice, grammar, sentence

LABELS = ("different", "same")
# how two hard questions differ; "swap" and "opposite" only if the intent has roles or an opposite
_KINDS = ("filler",) * 3 + ("intent",) * 3 + ("swap",) * 2 + ("opposite",) * 2
Intent = Mapping[str, Any]
Fillers = dict[str, Any]


def question_pair(dice: Dice, label: int, *, hard: float) -> tuple[str, str]:
    """Return two questions with the given label; with the probability ``hard`` different ones have the same words."""
    intents = grammar("questions")["intents"]
    intent = dice.pick(intents)
    if label == 0 and not dice.chance(hard):
        other = dice.pick([other for other in intents if _kinds(other) != _kinds(intent)])
        return _any_way(dice, intent), _any_way(dice, other)
    fillers = _fill(dice, intent, {})
    first = dice.pick(intent["ways"])
    others = [way for way in intent["ways"] if way != first]
    second = first if dice.chance(0.15) else dice.pick(others)
    asked = _ask(dice, first, fillers)
    if label == 1:
        return asked, _ask(dice, second, fillers, unlike=asked)
    kind = dice.pick([kind for kind in _KINDS if kind in ("filler", "intent") or kind in intent])
    if kind == "swap":
        a, b = intent["swap"]
        return asked, _ask(dice, second, {**fillers, a: fillers[b], b: fillers[a]})
    if kind == "opposite":
        return asked, _ask(dice, dice.pick(intent["opposite"]), fillers)
    related = [other for other in intents if other is not intent and _kinds(other) == _kinds(intent)]
    if kind == "intent" and related:
        other = dice.pick(related)
        return asked, _ask(dice, dice.pick(other["ways"]), dict(zip(other["slots"], fillers.values(), strict=True)))
    changed = dice.pick(list(fillers))
    return asked, _ask(dice, second, _fill(dice, intent, {k: v for k, v in fillers.items() if k != changed}, fillers))


def _any_way(dice: Dice, intent: Intent) -> str:
    return _ask(dice, dice.pick(intent["ways"]), _fill(dice, intent, {}))


def _kinds(intent: Intent) -> list[str]:
    return list(intent["slots"].values())


def _fill(dice: Dice, intent: Intent, given: Fillers, unlike: Fillers | None = None) -> Fillers:
    """Draw the fillers that are not given; none occurs twice, and none of ``unlike`` is drawn."""
    known = grammar("questions")["fillers"]
    fillers: Fillers = {}
    for slot, kind in intent["slots"].items():
        taken = [*fillers.values(), *given.values(), *(unlike or {}).values()]
        free = [value for value in known[kind] if value not in taken]
        fillers[slot] = given[slot] if slot in given else dice.pick(free)
    return fillers


def _ask(dice: Dice, way: str, fillers: Fillers, unlike: str = "") -> str:
    """Put fillers into a template, each in one of its spellings, until the question differs from ``unlike``."""
    while True:
        spellings = {slot: value if isinstance(value, str) else dice.pick(value) for slot, value in fillers.items()}
        opener = dice.pick(grammar("questions")["openers"]) if dice.chance(0.15) else ""
        text = sentence(opener + way.format_map(spellings))
        if text != unlike:
            return text
