"""One sentence about a film, a meal or a phone: negative (0) or positive (1).

The grammar is in ``reviews.yaml`` and ``domains.yaml``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.tasks.dice import Dice, grammar, sentence

LABELS = ("negative", "positive")
Rules = Mapping[str, Any]
# Hard sentences deny, report or concede the opposite of what they mean.
_HARD = ("denied",) * 2 + ("reported",) + ("contrast",) * 2 + ("by label",)
_OPENED = ("{", "I ", "this ", "although ")  # how a sentence begins that may follow "to be honest,"
_ADJECTIVES, _PREDICATES = ("bad", "good"), ("fails", "does")


def review(dice: Dice, label: int, *, hard: float) -> str:
    """Return one sentence with the given label; with the probability ``hard`` its words also say the opposite."""
    rules = grammar("reviews")
    group = dice.pick(_HARD) if dice.chance(hard) else "plain"
    template: str = dice.pick(rules["templates"][LABELS[label] if group == "by label" else group])
    domain = dice.pick(list(grammar("domains").values()))
    text = template.format_map(_slots(dice, rules, domain, label, named="{noun}" in template))
    if template.startswith(_OPENED) and dice.chance(0.25):
        text = f"{dice.pick(rules['openers'])}, {text}"
    return sentence(text) + "."


def _slots(dice: Dice, rules: Rules, domain: Rules, label: int, *, named: bool) -> dict[str, str]:
    """Fill every slot that a template may have; ``named``: the template itself names what is reviewed."""
    first, second, third = dice.sample(domain["aspects"], 3)
    noun = dice.pick(domain["nouns"])
    link = "" if named or dice.chance(0.5) else f" {first['link']} this {noun}"
    do, did, done = domain["act"]
    slots = {
        "noun": noun,
        "np": first["np"] + link,
        "is": _be(first, past=domain["past"]),
        "was": _be(first, past=True),
        "be": "was" if domain["past"] else "is",
        "it": "it" if named or link else f"this {noun}",
        "person": dice.pick(rules["person"]),
        "really": dice.pick(rules["really"]),
        "do": do,
        "did": did,
        "done": done,
    }
    for polarity, prefix in ((label, ""), (1 - label, "un")):
        slots["other" if prefix else "same"] = dice.pick(first[_ADJECTIVES[polarity]])
        for name, aspect, tail in (("clause", first, link), ("clause2", second, ""), ("clause3", third, "")):
            slots[prefix + name] = f"{aspect['np']}{tail} {_said(dice, aspect, polarity, past=domain['past'])}"
        slots[f"{prefix}idiom"] = dice.pick(rules["idiom"][polarity])[domain["past"]]
        slots[f"{prefix}verdict"] = dice.pick(rules["verdict"][polarity]).format_map(slots)
        for name in ("general", "loved"):
            slots[prefix + name] = dice.pick(rules[name][polarity])
        for name in ("better", "hoped"):
            slots[prefix + name] = rules[name][polarity]
    return slots


def _said(dice: Dice, aspect: Rules, polarity: int, *, past: bool) -> str:
    if dice.chance(0.35):
        return str(dice.pick(aspect[_PREDICATES[polarity]]))
    return f"{_be(aspect, past=past)} {dice.pick(aspect[_ADJECTIVES[polarity]])}"


def _be(aspect: Rules, *, past: bool) -> str:
    plural = aspect.get("plural", False)
    return ("were" if plural else "was") if past else ("are" if plural else "is")
