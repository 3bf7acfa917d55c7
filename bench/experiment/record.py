"""A record: what is stored of a judged cell, field by field. Whoever reads or writes one goes through this type.

What is stored under schema 1 has grown: fields that older records lack are optional here, and fields that only older
ones have are still read. Names that are not listed are kept, since a later version may have written them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from reprlib import Repr
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from bench.experiment.metrics import MEASURED
from bench.experiment.roles import Role

LARGEST = 2**63  # of whole numbers: what tables and files of numbers can hold
DEEPEST = 40  # mappings and lists inside each other
MOST_EXAMPLES = 10_000_000  # of a test set
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 60


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"is {_SHORT.repr(value)}, not a number")
    return value  # as it is: 1 and 1.0 are different bytes


def _percent(value: object) -> float:
    if not 0 <= (found := _number(value)) <= 100:
        raise ValueError(f"is {_SHORT.repr(value)}, not a number of percent")
    return found


def _seconds(value: object) -> float:
    if (found := _number(value)) < 0:
        raise ValueError(f"is {_SHORT.repr(value)}, not a number of seconds")
    return found


def _schema(value: object) -> int:
    if isinstance(value, bool) or value != 1:
        raise ValueError(f"is {_SHORT.repr(value)}; this version takes 1")
    return 1


Schema = Annotated[int, PlainValidator(_schema)]
Number = Annotated[float, PlainValidator(_number)]
Percent = Annotated[float, PlainValidator(_percent)]
Seconds = Annotated[float, PlainValidator(_seconds)]
Key = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class WrongField(ValueError):
    """Something is no record; the message is one line that names the field.

    Attributes:
        field: dotted path of the field; empty where the whole is meant.
        what: is wrong with it.
    """

    def __init__(self, field: str, what: str) -> None:
        super().__init__(f"field {field}: {what}" if field else what)
        self.field, self.what = field, what


class _Part(BaseModel):
    """A mapping in a record."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow", allow_inf_nan=False, protected_namespaces=())

    @classmethod
    def of(cls, document: object) -> Self:
        """Return what a JSON document holds.

        Raises:
            WrongField: a field is missing or of a wrong type, or a number in it is not finite.
        """
        if not isinstance(document, dict):
            raise WrongField("", f"is {_SHORT.repr(document)}, not a mapping")
        if (found := _fault(document)) is not None:
            raise WrongField(_path(reversed(found[0])), found[1])
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise _first(error) from None

    def document(self) -> dict[str, Any]:
        """Return the JSON document again: what :meth:`of` was given, value by value."""
        return self.model_dump(by_alias=True, exclude_unset=True)


class PluginRecipe(_Part):
    """A plugin with all its parameters, or several of them joined."""

    name: str
    version: int | None = None
    parameters: dict[str, Any] = {}
    parts: list[PluginRecipe] | None = None
    libraries: dict[str, str] = {}

    @model_validator(mode="after")
    def _has_parts_or_parameters(self) -> Self:
        alone = self.version is not None and "parameters" in self.model_fields_set
        if not (self.parts or (alone and self.parts is None)):
            raise ValueError("should have a version and parameters, or parts")
        return self

    @property
    def plugins(self) -> list[PluginRecipe]:
        """The plugins that are joined, or this one alone."""
        return self.parts or [self]


class TaskRecipe(PluginRecipe):
    """A task and its data."""

    fingerprint: str


class ModelRecipe(_Part):
    """A pre-trained model."""

    name: str
    weights: str
    config: str | None = None
    tokenizer: str | None = None


_NUMBER_OF_A_LABEL: TypeAdapter[int | None] = TypeAdapter(int | None, config=ConfigDict(strict=True))


def _target_recipe(value: object, _read: object) -> int | PluginRecipe | None:
    if isinstance(value, dict) and "name" in value:
        return PluginRecipe.model_validate(value)
    return _NUMBER_OF_A_LABEL.validate_python(value)


class VictimRecipe(_Part):
    """Everything that decides the weights of a poisoned model."""

    kind: Literal["victim"]
    schema_: Schema = Field(alias="schema")
    task: TaskRecipe
    model: ModelRecipe
    attack: PluginRecipe
    seed: int
    target: Annotated[int | PluginRecipe | None, WrapValidator(_target_recipe)]
    budget: dict[str, Any]
    rooms: dict[str, int]
    libraries: dict[str, str]
    reference: int
    part: list[int] | None = None
    head: int | None = None


class CellRecipe(_Part):
    """Everything that decides a cell. Older records state ``clean_size`` and ``selection_size`` instead of labels."""

    kind: Literal["cell"]
    schema_: Schema = Field(alias="schema")
    role: Role
    victim: VictimRecipe
    defense: PluginRecipe | None
    labels: int | None = None
    clean_size: int | None = None
    selection_size: int | None = None
    tolerance: Number
    others: list[VictimRecipe] = []
    rooms: dict[str, int] = {}


class CellWords(_Part):
    """A cell in words; ``clean_size`` is the number of labels that the defense may see.

    Without ``kind``, the model is a classifier, and the target is the number of a label; else it is a payload.
    """

    kind: Literal["generation"] | None = None
    task: str
    model: str
    attack: str
    defense: str
    seed: int
    target: int | str
    clean_size: int
    selection_size: int | None = None
    needs: list[str] | None = None
    board: str | None = None
    origin: dict[str, str] = {}

    @field_validator("target", mode="wrap")
    @classmethod
    def _belongs_to_the_kind(cls, value: object, _read: object, info: ValidationInfo) -> int | str:
        if info.data.get("kind") is None or isinstance(value, int):
            number = _NUMBER_OF_A_LABEL.validate_python(value)
            if number is None:
                raise ValueError("is missing")
            return number
        if not isinstance(value, str):
            raise ValueError(f"is {_SHORT.repr(value)}, neither a payload nor a number")
        return value


class PackedPredictions(_Part):
    """The predictions on one test set, see :func:`bench.experiment.predictions.encode`."""

    n: int = Field(ge=1, le=MOST_EXAMPLES)
    classes: int = Field(ge=1, le=10_000)
    gold: str
    label: str
    rejected: str
    probabilities: str
    target: str | None = None
    source: str | None = None


class PackedResponses(_Part):
    """The responses to one set of prompts, see :func:`bench.experiment.written.encode`."""

    n: int = Field(ge=1, le=MOST_EXAMPLES)
    total: int = Field(ge=0, le=MOST_EXAMPLES)
    right: str
    rejected: str
    ended: str
    broken: str
    lengths: str
    tokens: str
    holds: str | None = None
    counts: str | None = None
    loss: str | None = None
    guess: str | None = None
    source: str | None = None


def _packed(value: object, _read: object) -> PackedPredictions | PackedResponses:
    writes = isinstance(value, dict) and "tokens" in value
    return PackedResponses.model_validate(value) if writes else PackedPredictions.model_validate(value)


def _packed_if_any(value: object, read: object) -> PackedPredictions | PackedResponses | None:
    return None if value is None else _packed(value, read)


class Predicted(_Part):
    """The predictions on both test sets; the clean model has none on a triggered one of its own."""

    clean: Annotated[PackedPredictions | PackedResponses, WrapValidator(_packed)]
    triggered: Annotated[PackedPredictions | PackedResponses | None, WrapValidator(_packed_if_any)]


class Tried(_Part):
    """A candidate of the selection rule."""

    value: Number
    selection_acc: Number | None = None
    drop: Number | None = None
    fitted_drop: Number | None = None


class Notes(_Part):
    """The notes that reports read. All others are what a plugin likes to say, in JSON values."""

    reserve_ratio: Number | None = None
    suspicion: Number | None = None
    tried: list[Tried] = []
    selection_passed: bool | None = None
    selection_tolerance: Number | None = None
    selection_floor: Number | None = None


def _checked_notes(notes: dict[str, Any]) -> dict[str, Any]:
    Notes.model_validate(notes)
    return notes


def _checked_metrics(metrics: dict[str, float | None]) -> dict[str, float | None]:
    for name, value in metrics.items():
        if value is not None and (name not in MEASURED or MEASURED[name].unit == "%"):
            try:
                _percent(value)
            except ValueError as error:
                told = PydanticCustomError("value_error", "{told}", {"told": str(error)})
                wrong: InitErrorDetails = {"type": told, "loc": (name,), "input": value}
                raise ValidationError.from_exception_data("metrics", [wrong]) from None
    return metrics


class Record(_Part):
    """What is stored of a cell.

    Attributes:
        key: of the cell.
        status: ``n/a``: the combination makes no sense, and ``error`` is the reason.
        victim_key: of the model that was judged or defended.
        victim_weights: SHA-256 of its weights; None in records from before they named it.
        metrics: in percent by name, None where one is not defined; None for a detector.
        notes: of the defense.
        seconds: spent on the ``victim``, the ``defense`` and the ``evaluation``.
        environment: device, precision, and the versions of Python, of libraries and of this program.
    """

    schema_: Schema = Field(alias="schema")
    key: Key
    kind: Literal["cell"]
    role: Role
    status: Literal["done", "n/a"]
    error: str | None
    cell: CellWords
    recipe: CellRecipe
    victim_key: Key
    victim_weights: str | None = None
    metrics: Annotated[dict[str, Number | None], AfterValidator(_checked_metrics)] | None
    predictions: Predicted | None
    notes: Annotated[dict[str, Any], AfterValidator(_checked_notes)]
    seconds: dict[str, Seconds]
    environment: dict[str, str]

    @classmethod
    def of(cls, document: object) -> Self:
        """Return the record in a JSON document; see the class above for what it raises."""
        record = super().of(document)
        record._check_status()
        return record

    def _check_status(self) -> None:
        if self.status == "n/a":
            if not self.error:
                raise WrongField("error", "should say why the cell is n/a")
            if self.metrics is not None or self.predictions is not None:
                raise WrongField("status", "is n/a, but there are metrics or predictions")
        elif self.role == "detected":
            if self.notes.get("suspicion") is None:
                raise WrongField("notes.suspicion", "is missing, although a detector is done")
        elif self.metrics is None or self.predictions is None:
            raise WrongField("predictions" if self.metrics else "metrics", "are missing, although the cell is done")
        elif lacking := [name for name, metric in MEASURED.items() if metric.core and name not in self.metrics]:
            raise WrongField(f"metrics.{lacking[0]}", "is missing, although the cell is done")


class Failure(_Part):
    """What is stored of a failed attempt."""

    schema_: Schema = Field(alias="schema")
    key: Key
    kind: str
    status: Literal["failed"]
    label: str
    error: str
    traceback: str | None = None
    seconds: dict[str, Seconds] = {}
    environment: dict[str, Any] = {}
    when: Number | None = None


def _fault(value: Any, depth: int = 0) -> tuple[list[str], str] | None:
    """Return where something is not JSON, not finite, too large or too deep, from the inside out, and what it is."""
    if value is None or (isinstance(value, str) and _is_text(value)):
        return None
    if isinstance(value, int):
        return None if -LARGEST <= value < LARGEST else ([], f"is {_SHORT.repr(value)}, too large a number")
    if isinstance(value, float):
        return None if math.isfinite(value) else ([], f"is {value}, not a finite number")
    if not isinstance(value, dict | list | tuple):
        return [], f"is {_SHORT.repr(value)}, not a JSON value"
    if depth == DEEPEST:
        return [], f"is nested more than {DEEPEST} deep"
    for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if (found := _fault(inner, depth + 1)) is not None or (found := _fault(name)) is not None:
            return [*found[0], str(name)], found[1]
    return None


def _is_text(text: str) -> bool:
    """Whether a text can be written: half a surrogate pair, which JSON can spell, cannot."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _path(names: Iterable[object]) -> str:
    """Return the dotted path of a field as plain text of one line."""
    return ".".join(name if name.isprintable() else ascii(name) for name in map(str, names))


def _first(error: ValidationError) -> WrongField:
    """Return the first fault of several as one line."""
    fault = error.errors(include_url=False)[0]
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if fault["type"] == "missing":
        message = "is missing"
    elif fault["type"] != "value_error":
        message = f"{message[:1].lower()}{message[1:]}, not {_SHORT.repr(fault['input'])}"
    return WrongField(_path(fault["loc"]), message)
