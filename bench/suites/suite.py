"""A suite, or a collection of suites: what to run, as a YAML file that is checked to the last field before any job."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from bench.contracts import Budget, Kind
from bench.errors import RequestError, unknown
from bench.suites import specs, strict

SUITES = Path(__file__).parent
_LONGEST = 64  # characters of a name
_LARGEST = 1_000_000  # bytes; a suite is a page of text


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


Entry = str | dict[str, Any]
Entries = Annotated[list[Entry], BeforeValidator(_listed), Field(min_length=1)]
OptionalEntries = Annotated[list[Entry], BeforeValidator(_listed)]
Number = Annotated[int, Field(ge=0, lt=2**63)]  # what a record can hold
AnyNumbers = Annotated[list[Number], BeforeValidator(_listed)]
Numbers = Annotated[AnyNumbers, Field(min_length=1)]
PayloadName = Annotated[str, Field(pattern=r"^[^\W\d]")]  # in capitals too: who reads it names the payloads
Targets = Annotated[list[Number | PayloadName | dict[str, Any]], BeforeValidator(_listed), Field(min_length=1)]
LabelCounts = Annotated[list[Annotated[int, Field(ge=2)]], BeforeValidator(_listed), Field(min_length=1)]  # two halves
Model = TypeVar("Model", bound=BaseModel)
_ONE_BUDGET = "A defender has one budget of clean labels, to tune and to choose on: write labels."
FORMER = {"clean_size": _ONE_BUDGET, "selection_size": _ONE_BUDGET}  # fields of suites of earlier versions


class Gate(BaseModel):
    """When an attack counts as implanted. Applied to records by the report, so it is not part of any key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_asr: float = Field(90.0, ge=0, le=100, description="least ASR of the undefended victim, percent")
    max_acc_drop: float = Field(3.0, ge=0, le=100, description="most ACC lost against the clean model, points")
    max_ftr: float = Field(5.0, ge=0, le=100, description="most false triggers of a victim that writes, percent")
    min_skill: float = Field(
        20.0,
        ge=0,
        le=100,
        description="least ACC of the clean model, as a percentage of the way from the most frequent class to 100",
    )

    def rule(self, kind: Kind) -> str:
        """Return what it asks of a victim in words, as what can follow "from"."""
        false = f", FTR of at most {self.max_ftr:g}" if kind == Kind.GENERATION else ""
        return f"ASR {self.min_asr:g}{false} with at most {self.max_acc_drop:g} points of ACC lost"


class Suite(BaseModel):
    """A grid: the cross product of its axes, with one budget and one selection rule."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=_LONGEST, description="its name in commands")
    description: str = Field(description="one line")
    task: Entries = Field(description="axis: tasks")
    model: Annotated[list[str], BeforeValidator(_listed), Field(min_length=1)] = Field(description="axis: models")
    attack: Entries = Field(description="axis: attacks")
    defense: Entries = Field(description="axis: defenses; parts of a chain are joined by +")
    seed: Numbers = Field([0], description="axis: seeds")
    clean_seeds: AnyNumbers = Field([], description="seeds of more clean models, which only detectors judge")
    target: Literal["all"] | Targets = Field(
        [1], description="axis: target labels, all: every label of the task; of generators, payloads"
    )
    labels: LabelCounts = Field([64], description="axis: clean labels that a defense may see, to tune and to choose on")
    tolerance: float = Field(5.0, ge=0, le=100, description="points of accuracy that the selection rule may give up")
    budget: Budget = Field(Budget(), description="training of victims")
    gate: Gate = Field(Gate(), description="when an attack counts as implanted")
    measures: OptionalEntries = Field(
        [], description="what is measured of every model beside its answers, such as noise; it is part of the keys"
    )
    study: Literal["word-scores", "landscape"] | None = Field(None, description="a figure of weights to draw as well")
    profiles: dict[str, dict[str, Any]] = Field({}, description="named sets of other values of fields")


class Collection(BaseModel):
    """Several suites under one name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=_LONGEST, description="its name in commands")
    description: str = Field(description="one line")
    suites: list[str] = Field(min_length=1, description="names or files of suites, run one after the other")


def built_in() -> list[str]:
    """Return the names of the suites that ship with the project."""
    return sorted(path.stem for path in SUITES.glob("*.yaml"))


def locate(name: str) -> Path:
    """Return the file of a built-in suite, or the given path."""
    if name in built_in():
        return SUITES / f"{name}.yaml"
    path = Path(name)
    looks_like_path = path.suffix in {".yaml", ".yml"} or "/" in name
    if "\0" in name or not looks_like_path:
        raise unknown("suite", name[:80], built_in(), listing="doorbench list suites")
    try:
        exists = path.is_file()
    except OSError:  # a name that no file system takes
        exists = False
    if not exists:
        raise RequestError(f"no suite file {name[:200]!r}. Built-in suites: `doorbench list suites`.")
    return path


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping strictly; every mistake is one line with the place."""
    try:
        if path.stat().st_size > _LARGEST:
            raise RequestError(f"{path}: larger than {_LARGEST:,} bytes; this is not a suite.")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: not UTF-8 at byte {error.start}.") from None
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror}.") from None
    data = strict.load(text, str(path))
    if not isinstance(data, dict):
        raise RequestError(f"{path}: a suite is a mapping of fields; valid: {', '.join(Suite.model_fields)}.")
    return data


def describe(name: str) -> str:
    """Return the description of a suite or collection."""
    collection = _collection(*_read(name))
    return load(name).description if collection is None else collection.description


def load_all(name: str, settings: Sequence[str] = ()) -> list[Suite]:
    """Read a suite, or every suite of a collection, and apply settings to each."""
    collection = _collection(*_read(name))
    return [load(one, settings) for one in ([name] if collection is None else collection.suites)]


def _read(name: str) -> tuple[Path, dict[str, Any]]:
    path = locate(name)
    return path, read_yaml(path)


def _collection(path: Path, data: Mapping[str, Any]) -> Collection | None:
    return _validated(Collection, data, str(path)) if "suites" in data else None


def load(name: str, settings: Sequence[str] = ()) -> Suite:
    """Read a suite, and apply ``--set axis=a,b`` settings to it; ``profile=NAME`` comes before all others.

    ``task=NAME`` keeps the fields, such as ``max_train``, that the suite gives this task; ``task=NAME()`` drops them.

    Raises:
        RequestError: there is no such suite, it has a wrong field, or it is a collection of suites.
    """
    path, data = _read(name)
    if collection := _collection(path, data):
        raise RequestError(f"{name!r} is a collection; name one of its suites: {', '.join(collection.suites)}.")
    profiles = [text.partition("=")[2].strip() for text in settings if text.partition("=")[0].strip() == "profile"]
    for profile in profiles[-1:]:
        data = profiled(check(data, str(path)), data, profile)
    for setting in settings:
        if setting.partition("=")[0].strip() != "profile":
            _apply(data, setting)
    return check(data, str(path))


def in_yaml(suite: Suite) -> str:
    """Return a suite as a file that reads back as the same suite; fields with their defaults are left out."""
    return strict.dump(suite.model_dump(mode="json", exclude_defaults=True, by_alias=True), allow_unicode=True)


def renamed(suite: Suite, path: Path, settings: Sequence[str]) -> Suite:
    """Return a suite under the name of the file that it is saved to, with a description that says what was set."""
    name = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:_LONGEST].rstrip("-")
    if not name:
        raise RequestError(f"{path}: a suite takes its name from its file, which has no letter of a-z and no digit.")
    changed = f" ({', '.join(settings)})" if settings else ""
    return suite.model_copy(update={"name": name, "description": suite.description + changed})


def profiled(suite: Suite, data: Mapping[str, Any], profile: str) -> dict[str, Any]:
    """Return the fields of a suite with those of one of its profiles; its name ends in that of the profile."""
    if profile not in suite.profiles:
        raise unknown(f"profile of suite {suite.name!r}:", profile, suite.profiles)
    return {**data, **suite.profiles[profile], "name": f"{suite.name}-{profile}"}


def check(data: Mapping[str, Any], where: str) -> Suite:
    """Validate the fields of a suite; the error names the field and the valid choices."""
    return _validated(Suite, data, where)


def gate(data: Mapping[str, Any], where: str) -> Gate:
    """Return the gate among the fields of a suite."""
    fields = data.get("gate", {})
    if not isinstance(fields, Mapping):
        raise RequestError(f"{where}: gate = {fields!r:.200} is no mapping.")
    return _validated(Gate, fields, f"{where}: gate")


def _validated(model: type[Model], data: Mapping[str, Any], where: str) -> Model:
    for field in data:
        if field not in model.model_fields:
            raise _unknown(f"field of {where}:", str(field), model.model_fields)
    try:
        return strict.validated(model, data)
    except ValidationError as error:
        fault = " ".join(part for part in strict.first_fault(error, model) if part)
        raise RequestError(f"{where}: {fault}.") from None


def _unknown(kind: str, name: str, valid: Iterable[str]) -> RequestError:
    if name in FORMER:
        return RequestError(f"unknown {kind} {name!r}. {FORMER[name]}")
    return unknown(kind, name, valid)


def _as_listed(entries: Any, wanted: str) -> list[Entry]:
    """Return the suite's own entries, with their fields, of a task given by its bare name; else what is given."""
    return [entry for entry in _listed(entries) if specs.parse_entry(entry, "task")[0] == wanted] or [wanted]


def _apply(data: dict[str, Any], setting: str) -> None:
    axis, equals, text = setting.partition("=")
    axis = axis.strip()
    field, dot, inner = axis.partition(".")
    if not equals:
        raise RequestError(f"--set {setting}: has no value; write --set {axis or 'field'}=VALUE.")
    if field not in Suite.model_fields:
        raise _unknown("setting", axis, [*Suite.model_fields, *(f"budget.{f}" for f in Budget.model_fields)])
    plain = field not in {"task", "model", "attack", "defense", "measures"}
    values = [strict.load_value(part, f"--set {axis}") if plain else part for part in specs.split_top(text, ",")]
    if field == "task":
        values = [entry for value in values for entry in _as_listed(data.get("task", []), value)]
    value = values[0] if len(values) == 1 else values
    if not dot:
        data[field] = value
        return
    nested = data.setdefault(field, {})
    if not isinstance(nested, dict):
        raise RequestError(f"--set {setting}: {field!r} has no fields; write --set {field}=...")
    nested[inner] = value
