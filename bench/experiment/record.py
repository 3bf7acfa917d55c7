"""A record: what is stored of a judged cell, field by field. Whoever reads or writes one goes through this type.

What is stored under schema 1 has grown: fields that older records lack are optional here, and fields that only older
ones have are still read. Names that are not listed are kept, since a later version may have written them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from bench.experiment.metrics import MEASURED, Outcomes
from bench.experiment.outcomes import of_predictions
from bench.experiment.roles import Role
from bench.experiment.stored_fields import SHORT, Key, Number, Part, Schema, Seconds, WrongField, percent

MOST_EXAMPLES = 10_000_000  # of a test set
MOST_PROBABILITIES = 100_000_000  # of a test set


class PluginRecipe(Part):
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


class ModelRecipe(Part):
    """A pre-trained model."""

    name: str
    weights: str
    config: str | None = None
    tokenizer: str | None = None


class VictimRecipe(Part):
    """Everything that decides the weights of a poisoned model."""

    kind: Literal["victim"]
    schema_: Schema = Field(alias="schema")
    task: TaskRecipe
    model: ModelRecipe
    attack: PluginRecipe
    seed: int
    target: int | PluginRecipe | None
    budget: dict[str, Any]
    rooms: dict[str, int]
    libraries: dict[str, str]
    reference: int
    part: list[int] | None = None
    head: int | None = None


class CellRecipe(Part):
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
    measures: list[PluginRecipe] = []
    rooms: dict[str, int] = {}


class CellWords(Part):
    """A cell in words; ``clean_size`` is the budget of labels. Without ``kind``, the model is a classifier."""

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
    kind: Literal["generation"] | None = None

    @model_validator(mode="after")
    def _only_texts_have_payloads(self) -> Self:
        if isinstance(self.target, str) and self.kind is None:
            raise WrongField("target", f"is {SHORT.repr(self.target)}, not the number of a label")
        return self


class PackedPredictions(Part):
    """The predictions on one test set, see :func:`bench.experiment.predictions.encode`.

    Attributes:
        of_the_victim: the fields that are the same in every record of one victim.
    """

    of_the_victim: ClassVar[tuple[str, ...]] = ("gold",)

    n: int = Field(ge=1, le=MOST_EXAMPLES)
    classes: int = Field(ge=1, le=10_000)
    gold: str
    label: str
    rejected: str
    probabilities: str
    target: str | None = None
    source: str | None = None

    @model_validator(mode="after")
    def _fit_into_memory(self) -> Self:
        if self.n * self.classes > MOST_PROBABILITIES:
            raise ValueError(f"should have {MOST_PROBABILITIES:,} probabilities at most")
        return self


class PackedResponses(Part):
    """The responses to one set of prompts, see :func:`bench.experiment.written.encode`.

    Attributes:
        of_the_victim: the fields that are the same in every record of one victim.
    """

    of_the_victim: ClassVar[tuple[str, ...]] = ("n", "source")

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


def _answers(value: object) -> str:
    """Return the tag of what answers are: labels or texts."""
    written = "tokens" in value if isinstance(value, dict) else isinstance(value, PackedResponses)
    return "<responses>" if written else "<predictions>"


PackedAnswers = Annotated[
    Annotated[PackedPredictions, Tag("<predictions>")] | Annotated[PackedResponses, Tag("<responses>")],
    Discriminator(_answers),
]


class PackedOutcomes(Part):
    """A column of a measure, see :func:`bench.experiment.predictions.encode_beside`."""

    n: int = Field(ge=1, le=MOST_EXAMPLES)
    outcomes: str


class Predicted(Part):
    """The predictions on both test sets, and what measures say beside them.

    The clean model has none on a triggered test set of its own. Without measures nothing is beside them.
    """

    clean: PackedAnswers
    triggered: PackedAnswers | None
    beside: dict[str, PackedOutcomes] = {}


class Tried(Part):
    """A candidate of the selection rule."""

    value: Number
    selection_acc: Number | None = None
    drop: Number | None = None
    fitted_drop: Number | None = None


class Notes(Part):
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
                percent(value)
            except ValueError as error:
                raise WrongField(name, str(error)) from None
    return metrics


class Record(Part):
    """What is stored of a cell.

    Attributes:
        key: of the cell.
        status: ``n/a``: the combination makes no sense, and ``error`` is the reason.
        victim_key: of the model that was judged or defended.
        victim_weights: SHA-256 of its weights; None in records from before they named it.
        defended_weights: SHA-256 of the weights that a defense left; None where it left the model as it was, or in
            records from before they named it.
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
    defended_weights: str | None = None
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

    @property
    def whole(self) -> Self:
        """The record with everything in it, which this is already."""
        return self

    @property
    def predicted(self) -> bool:
        """Whether it has predictions."""
        return self.predictions is not None

    @property
    def origin(self) -> dict[str, str]:
        """The packages of plugins that are not built in, by axis."""
        return self.cell.origin

    @property
    def outcomes(self) -> Mapping[str, Outcomes | None]:
        """Per example by metric; None where one is not defined.

        Raises:
            ValueError, IndexError: there are no predictions, or no evaluator wrote them.
        """
        if self.metrics is None or self.predictions is None:
            raise ValueError("are missing")
        return of_predictions(
            self.predictions.document(), measured=self.metrics, kind=self.cell.kind, target=self.cell.target
        )

    def _check_status(self) -> None:
        if self.status == "n/a":
            if not self.error:
                raise WrongField("error", "should say why the cell is n/a")
            if self.metrics is not None or self.predictions is not None:
                raise WrongField("status", "is n/a, but there are metrics or predictions")
        elif self.error is not None:
            raise WrongField("error", "says why the cell has no numbers, although it is done")
        elif self.role == "detected":
            if self.notes.get("suspicion") is None:
                raise WrongField("notes.suspicion", "is missing, although a detector is done")
        elif self.metrics is None or self.predictions is None:
            raise WrongField("predictions" if self.metrics else "metrics", "are missing, although the cell is done")
        elif lacking := [name for name, metric in MEASURED.items() if metric.core and name not in self.metrics]:
            raise WrongField(f"metrics.{lacking[0]}", "is missing, although the cell is done")


class Failure(Part):
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
