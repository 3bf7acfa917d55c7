"""Records of the same cells from machines with other versions of the libraries that change numbers.

A run never takes them for its own. A reader may show them, because each says which versions made it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.experiment import recipes
from bench.keys import key_of

if TYPE_CHECKING:
    from bench.experiment.grid import Cell
    from bench.experiment.record import Record
    from bench.experiment.result_store import ResultStore


def shown(cells: Mapping[str, Cell], store: ResultStore) -> dict[str, Record]:
    """Return the record to show of each cell that has any, by the cell's own key.

    A victim may have been trained under several versions, and cells of two trainings are not to be compared. So the
    cells of a victim show the training that most of them have a record of, the reader's own where there are as many;
    a cell that lacks it shows another.
    """
    by_recipe = defaultdict(list)
    for record in store.results():
        by_recipe[apart_from_libraries(record.recipe.document())].append(record)
    made = {key: by_recipe.get(apart_from_libraries(recipes.cell_recipe(cell)), []) for key, cell in cells.items()}
    victims = {key: recipes.victim_key(cell.victim) for key, cell in cells.items()}
    trainings: dict[str, Counter[str]] = defaultdict(Counter)
    for key, records in made.items():
        trainings[victims[key]].update({record.victim_key for record in records})

    def rank(key: str, record: Record) -> tuple[int, bool, bool]:
        training, own = record.victim_key, victims[key]
        return trainings[own][training], training == own, record.key == key

    return {key: max(records, key=partial(rank, key)) for key, records in made.items() if records}


def apart_from_libraries(recipe: Mapping[str, Any]) -> str:
    """Return the key of a recipe without the versions of libraries in it: 64 hexadecimal digits."""
    return key_of(_without(recipe))


def _without(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without(inner) for name, inner in value.items() if name != "libraries"}
    return [_without(inner) for inner in value] if isinstance(value, list | tuple) else value
