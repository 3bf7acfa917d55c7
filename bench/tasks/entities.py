"""Pairs of rows of two tables that describe the same product (1) or different ones (0): entity matching.

Rows are written down as attributes with their values, as matchers on language models read them. The two tables name
things differently. Different products differ in everything; hard ones among them in the model or the size alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.tasks.dice import Dice, grammar

LABELS = ("different", "same")
Product = Mapping[str, Any]


def entity_pair(dice: Dice, label: int, *, hard: float) -> tuple[str, str]:
    """Return a row of each table with the given label; with the probability ``hard`` different ones look alike."""
    product = _product(dice)
    if label == 1:
        return _row(dice, "left", 0, product), _row(dice, "right", 1, product)
    other = _alike(dice, product) if dice.chance(hard) else _unlike(dice, product)
    return _row(dice, "left", 0, product), _row(dice, "right", 1, other)


def _product(dice: Dice) -> Product:
    rules = grammar("entities")
    kind = dice.pick(rules["kinds"])
    drawn = {"maker": dice.pick(rules["makers"]), "kind": kind, "model": _model(dice), "size": dice.pick(kind["sizes"])}
    return {**drawn, "colour": dice.pick(rules["colours"]), "price": dice.pick(range(20, 2000))}


def _model(dice: Dice) -> str:
    return f"{dice.pick(grammar('entities')['series'])}{dice.pick(range(100, 1000))}"


def _alike(dice: Dice, product: Product) -> Product:
    """Return a product of the same maker and kind, of another model or another size."""
    if dice.chance(0.5):
        model = _model(dice)
        while model == product["model"]:
            model = _model(dice)
        return {**product, "model": model}
    return {**product, "size": dice.pick([size for size in product["kind"]["sizes"] if size != product["size"]])}


def _unlike(dice: Dice, product: Product) -> Product:
    """Return a product of another maker and another kind."""
    other = _product(dice)
    while other["maker"] == product["maker"] or other["kind"] == product["kind"]:
        other = _product(dice)
    return other


def _row(dice: Dice, table: str, spelling: int, product: Product) -> str:
    """Return a product as a table writes it; the spelling is that of the table more often than not."""
    kind = product["kind"]
    mixed = spelling if dice.chance(0.7) else 1 - spelling
    price = product["price"] + (dice.pick((-2, -1, 0, 1, 2)) if table == "right" else 0)
    words = {"kind": kind["names"][mixed], "unit": kind["units"][mixed], "colour": product["colour"][mixed]}
    return str(dice.pick(grammar("entities")[table]).format_map({**product, **words, "price": price}))
