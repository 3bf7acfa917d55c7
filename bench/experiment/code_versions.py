"""Which code decides which numbers, and its version: what a key says of the code beside plugins and libraries.

Raise the version of an area whenever a number can change through its files; ``tests/test_versions.py`` holds a
fingerprint of the code of each area beside its version. An area that decides a victim decides its cells too, because
the key of a cell contains that of its victim. Plugins have versions of their own, and a task is covered by the
fingerprint of its data, so neither ``attacks/``, ``defenses/`` nor ``bench/tasks/`` is listed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class CodeArea:
    """Files that have one version.

    Attributes:
        version: raised whenever a number can change through these files.
        decides: ``victim`` where the weights of a victim can change, and so all its cells; ``cell`` where only what is
            done to a victim can change, so that no victim has to be trained again.
        files: globs below the folder that holds ``bench/``.
    """

    version: int
    decides: Literal["victim", "cell"]
    files: tuple[str, ...]


# The names are those of keys: "work" is what trains and stores a victim.
CODE_VERSIONS: dict[str, CodeArea] = {
    "learning": CodeArea(2, "victim", ("bench/learning/*.py",)),
    "work": CodeArea(
        1, "victim", tuple(f"bench/experiment/{name}.py" for name in ("kinds", "victims", "stored_victims"))
    ),
    "attacks": CodeArea(
        1,
        "victim",
        tuple(
            f"bench/contracts/{name}.py"
            for name in ("answers", "attack", "dialogues", "examples", "goal", "kind", "plugin", "task")
        ),
    ),
    "plugins": CodeArea(
        1, "victim", ("bench/plugins/registry.py", "bench/plugins/modified.py", "bench/suites/specs.py")
    ),
    "models": CodeArea(1, "victim", ("bench/models/*.py",)),
    "seeds": CodeArea(1, "victim", ("bench/seeds.py",)),
    "keys": CodeArea(1, "victim", ("bench/keys.py",)),
    "evaluation": CodeArea(
        2,
        "cell",
        tuple(
            f"bench/experiment/{name}.py"
            for name in ("answers", "episodes", "evaluation", "metric", "metrics", "predictions", "written")
        ),
    ),
    "judging": CodeArea(2, "cell", ("bench/experiment/judging.py", "bench/experiment/skips.py")),
    "selection": CodeArea(3, "cell", ("bench/contracts/access.py", "bench/contracts/selection.py")),
    "defenses": CodeArea(1, "cell", tuple(f"bench/contracts/{name}.py" for name in ("defense", "defended", "needs"))),
    "chains": CodeArea(1, "cell", ("bench/plugins/chain.py",)),
}

# What has to be covered, and the files in it through which no number can change, with the reason.
COVERED = tuple(f"bench/{name}" for name in ("contracts", "models", "plugins", "suites", "learning", "experiment"))
COVERED += ("bench/keys.py", "bench/seeds.py")
NO_NUMBERS: dict[str, str] = {
    "bench/contracts/__init__.py": "names the classes of the folder once more",
    "bench/contracts/threat.py": "says which defenses are compared",
    "bench/contracts/measure.py": "the base of measures; each has a version of its own in keys",
    "bench/plugins/__init__.py": "empty",
    "bench/plugins/catalogue.py": "describes plugins",
    "bench/plugins/foreign.py": "lets third parties' code be imported; what it is stands in a recipe",
    "bench/plugins/works.py": "describes what plugins cite",
    "bench/suites/__init__.py": "empty",
    "bench/suites/strict.py": "checks a suite; what the suite says is in the recipe",
    "bench/suites/suite.py": "reads a suite; what the suite says is in the recipe",
    "bench/experiment/__init__.py": "empty",
    "bench/experiment/code_versions.py": "this table",
    "bench/experiment/from_recipe.py": "makes cells of records again, to compare and not to run them",
    "bench/experiment/grid.py": "lists cells; what a cell is stands in its recipe",
    "bench/experiment/recipes.py": "writes recipes; tests/experiment/test_committed_keys.py compares them all",
    "bench/experiment/plan.py": "lists jobs",
    "bench/experiment/costs.py": "guesses how long jobs take",
    "bench/experiment/forecast.py": "says how long they take",
    "bench/experiment/probe.py": "trains for some seconds and keeps nothing",
    "bench/experiment/roles.py": "names what a cell is",
    "bench/experiment/work.py": "hands a job to victims.py or judging.py",
    "bench/experiment/other_library_versions.py": "chooses which records to show",
    "bench/experiment/record.py": "checks what was measured; it changes nothing in it",
    "bench/experiment/stored_fields.py": "the same",
    "bench/experiment/record_files.py": "reads and checks what was measured",
    "bench/experiment/result_store.py": "refuses what is no record",
    "bench/experiment/kept.py": "shows what was measured, from the store's columns",
    "bench/experiment/outcomes.py": "packs what was measured of single examples, and unpacks the same",
}

# Keys from before there was this table have these areas in them at version 1, so they are always written. A victim
# does not depend on how it is judged; its key keeps the number of those days, whatever the version of the evaluation.
ALWAYS_IN_VICTIM_KEYS = ("learning", "work")
FROZEN_IN_VICTIM_KEYS = {"evaluation": 1}


def of_victims() -> dict[str, int]:
    """Return the versions that the key of a victim contains: other areas enter once their version is above 1."""
    areas = {name: area for name, area in CODE_VERSIONS.items() if area.decides == "victim"}
    raised = {n: area.version for n, area in areas.items() if area.version > 1 or n in ALWAYS_IN_VICTIM_KEYS}
    return {**raised, **FROZEN_IN_VICTIM_KEYS}


def of_cells() -> dict[str, int]:
    """Return the versions that the key of a cell contains beside its victim's: those above 1."""
    return {n: area.version for n, area in CODE_VERSIONS.items() if area.decides == "cell" and area.version > 1}
