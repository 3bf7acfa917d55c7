"""The whole recipe of every victim and cell: what a key has to know, and nothing that it must not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from bench import models
from bench._version import __version__
from bench.contracts import Kind, Measure, Payload, Target, Task, TaskSource, board_of
from bench.experiment import code_versions
from bench.experiment.grid import CLEAN, Cell, VictimSpec
from bench.experiment.roles import Role
from bench.keys import Keys, canonical, key_of, key_of_fields
from bench.models.files import sha256
from bench.plugins import registry
from bench.plugins.chain import needs_of

if TYPE_CHECKING:
    from bench.models.pretrained import PretrainedModel

SCHEMA = 1
LIBRARIES = ("torch", "transformers", "tokenizers", "numpy")


@cache
def libraries() -> dict[str, str]:
    """Versions of the libraries that change numbers; the build tag after ``+`` does not count."""
    return {name: version(name).partition("+")[0] for name in LIBRARIES}


@lru_cache(maxsize=16)
def task_of(source: TaskSource) -> Task:
    """Load a task once in a process."""
    return source.load()


@lru_cache(maxsize=16)
def model_of(name: str) -> PretrainedModel:
    """Locate a pre-trained model once in a process."""
    return models.create(name)


@cache
def _model_fingerprint(name: str) -> Mapping[str, Any]:
    return model_of(name).fingerprint()


@cache
def _source_recipe(source: TaskSource) -> Mapping[str, Any]:
    return {**source.recipe(), "fingerprint": task_of(source).fingerprint}


def _attack_files(spec: VictimSpec) -> dict[str, Any]:
    """Return the hashes of what an attack reads beside the task's splits; nothing for one that reads nothing."""
    if reading := spec.attack.files(task_of(spec.task).facts):
        return {"files": [sha256(path) for path in reading]}
    return {}


@lru_cache(maxsize=4096)
def victim_recipe(spec: VictimSpec) -> dict[str, Any]:
    """Return the recipe of a poisoned model."""
    return victim_recipe_with(
        spec,
        task=_source_recipe(spec.task),
        model=_model_fingerprint(spec.model),
        files=_attack_files(spec),
        libraries=libraries(),
    )


def victim_recipe_with(
    spec: VictimSpec,
    *,
    task: Mapping[str, Any],
    model: Mapping[str, Any],
    files: Mapping[str, Any],
    libraries: Mapping[str, str],
) -> dict[str, Any]:
    """Return the recipe of a poisoned model, given what else has to be read from this machine.

    Args:
        spec: the model.
        task: the recipe of its task, with the fingerprint of the data.
        model: the fingerprint of the pre-trained model.
        files: the hashes of what the attack reads beside the task; empty where it reads nothing.
        libraries: the versions of the libraries that change numbers.
    """
    return {
        "kind": "victim",
        "schema": SCHEMA,
        "task": task,
        "model": model,
        "attack": {**spec.attack.recipe(), **files},
        "reference": registry.attacks.get(CLEAN).version,
        "seed": spec.seed,
        "target": None if spec.is_clean_model else target_recipe(spec.target),
        "budget": spec.budget.model_dump(mode="json"),
        "rooms": code_versions.of_victims(),
        "libraries": libraries,
        **({"part": list(spec.part)} if spec.part else {}),
        **({"head": spec.head} if spec.head is not None else {}),
    }


def target_recipe(target: Target) -> Any:
    """Return what a key knows of a target: the number of the label, or the recipe of the payload."""
    return target.recipe() if isinstance(target, Payload) else target


@lru_cache(maxsize=4096)
def victim_key(spec: VictimSpec) -> str:
    """Return the key of a poisoned model."""
    return key_of(victim_recipe(spec))


@lru_cache(maxsize=4096)
def made_with(spec: VictimSpec) -> Mapping[str, str]:
    """Return what the key of a model contains of the machine: versions of code and libraries, fingerprints of data."""
    recipe = victim_recipe(spec)
    attack, areas = recipe["attack"], {**code_versions.of_victims(), **code_versions.of_cells()}
    plugins = [recipe["task"], *attack.get("parts", [attack])]
    return {
        "doorbench": __version__,
        **recipe["libraries"],
        **{f"the code of {name}": f"version {number}" for name, number in areas.items()},
        **{plugin["name"]: f"version {plugin['version']}" for plugin in plugins},
        "the data of the task": recipe["task"]["fingerprint"][:12],
        **{f"the model's {part}": digest[:12] for part, digest in recipe["model"].items() if part != "name"},
    }


@lru_cache(maxsize=64)
def measure_recipe(measure: Measure) -> Mapping[str, Any]:
    """Return the recipe of a measure, with the hashes of what it reads beside the task."""
    files = [sha256(path) for path in measure.files()]
    return {**measure.recipe(), **({"files": files} if files else {})}


def cell_recipe(
    cell: Cell,
    of: Callable[[VictimSpec], Any] = victim_recipe,
    measured: Callable[[Measure], Any] = measure_recipe,
) -> dict[str, Any]:
    """Return the recipe of an evaluation; it contains the victim's, which ``of`` returns, and those of measures."""
    return {
        "kind": "cell",
        "schema": SCHEMA,
        "role": cell.role,
        "victim": of(cell.victim),
        "defense": None if cell.defense is None else cell.defense.recipe(),
        "labels": cell.labels,
        "tolerance": cell.tolerance,
        **({"others": [of(other) for other in cell.others.values()]} if cell.others else {}),
        **({"measures": [measured(measure) for measure in cell.measures]} if cell.measures else {}),
        **({"rooms": versions} if (versions := code_versions.of_cells()) else {}),
    }


@lru_cache(maxsize=4096, typed=True)
def _unchanging(role: Role, labels: int, tolerance: float) -> dict[str, str]:
    """Return, as canonical JSON, the fields of a recipe that many cells have in common."""
    return {
        "kind": '"cell"',
        "schema": canonical(SCHEMA),
        "role": canonical(role),
        "defense": "null",
        "labels": canonical(labels),
        "tolerance": canonical(tolerance),
        **({"rooms": canonical(versions)} if (versions := code_versions.of_cells()) else {}),
    }


def cell_key(cell: Cell) -> str:
    """Return the key of an evaluation. Each model enters by its key, which stands for its whole recipe."""
    return key_of_fields(_apart_from_victim(cell) | {"victim": f'"{victim_key(cell.victim)}"'})


def _apart_from_victim(cell: Cell) -> dict[str, str]:
    """Return the fields of the recipe of an evaluation, without the victim, as canonical JSON."""
    fields = dict(_unchanging(cell.role, cell.labels, cell.tolerance))
    if cell.wants_others:
        fields["others"] = canonical([victim_key(other) for other in cell.others.values()])
    if cell.defense is not None:
        fields["defense"] = cell.defense.canonical_recipe
    if cell.measures:
        fields["measures"] = canonical([measure_recipe(measure) for measure in cell.measures])
    return fields


class CellKeys:
    """The keys of the cells of a plan. They differ from line to line mostly in the victim, so the rest is hashed once.

    It knows defenses by their identity, so they have to stay as long as it does.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], Keys | None] = {}

    def __call__(self, cell: Cell) -> str:
        """Return the key of an evaluation, as :func:`cell_key` does."""
        alike = cell.role, id(cell.defense), cell.labels, cell.tolerance, cell.measures
        if alike not in self._known:
            self._known[alike] = None if cell.wants_others else Keys(_apart_from_victim(cell), "victim")
        keys = self._known[alike]
        return cell_key(cell) if keys is None else keys.of(f'"{victim_key(cell.victim)}"')


def cell_words(cell: Cell) -> dict[str, Any]:
    """Return what a record says of its cell in words."""
    from bench.experiment.grid import task_spec

    kind = task_of(cell.victim.task).facts.kind
    return {
        "task": task_spec(cell.victim.task),
        "model": model_of(cell.victim.model).name,
        "attack": cell.victim.attack.spec,
        "defense": cell.defense_spec,
        "seed": cell.victim.seed,
        "target": target_words(cell.victim.target),
        "clean_size": cell.labels,
        "needs": [] if cell.defense is None else sorted(str(need) for need in needs_of(cell.defense)),
        "board": None if cell.defense is None else board_of(cell.victim.attack, cell.defense).value,
        "origin": _origins(cell),
        **({} if kind == Kind.CLASSIFICATION else {"kind": kind.value}),
    }


def target_words(target: Target) -> int | str:
    """Return the number of a target label, or a payload as a suite spells it."""
    return target.spec if isinstance(target, Payload) else target


def _origins(cell: Cell) -> dict[str, str]:
    """Return the distributions of the plugins that are not built in."""
    parts = () if cell.defense is None else getattr(cell.defense, "parts", (cell.defense,))
    attack = cell.victim.attack
    attacks = (*getattr(attack, "modifiers", ()), getattr(attack, "attack", attack))
    plugins = {"task": (cell.victim.task,), "attack": attacks, "defense": parts}
    origins = {kind: [registry.origin_of(plugin) for plugin in each] for kind, each in plugins.items()}
    external = {kind: sorted({name for name in names if name != registry.BUILT_IN}) for kind, names in origins.items()}
    return {kind: "+".join(names) for kind, names in external.items() if names}


def environment(device: str, precision: str) -> dict[str, str]:
    """Return what a record says of where and when it was made; the day is that of Greenwich."""
    import platform
    import time

    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "device": device,
        "precision": precision,
        "version": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        **libraries(),
    }
