"""Fields of what is stored: strict types, and errors of one line that name the field."""

from __future__ import annotations

import math
from collections.abc import Iterable
from reprlib import Repr
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError

LARGEST = 2**63  # of whole numbers: what tables and files of numbers can hold
DEEPEST = 40  # mappings and lists inside each other
SHORT = Repr()
SHORT.maxstring = SHORT.maxother = 60


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"is {SHORT.repr(value)}, not a number")
    return value  # as it is: 1 and 1.0 are different bytes


def percent(value: object) -> float:
    """Return a number of percent as it is; raises ``ValueError`` for anything else."""
    if not 0 <= (number := _number(value)) <= 100:
        raise ValueError(f"is {SHORT.repr(value)}, not a number of percent")
    return number


def _seconds(value: object) -> float:
    if (number := _number(value)) < 0:
        raise ValueError(f"is {SHORT.repr(value)}, not a number of seconds")
    return number


def _schema(value: object) -> int:
    if isinstance(value, bool) or value != 1:
        raise ValueError(f"is {SHORT.repr(value)}; this version takes 1")
    return 1


Schema = Annotated[int, PlainValidator(_schema)]
Number = Annotated[float, PlainValidator(_number)]
Percent = Annotated[float, PlainValidator(percent)]
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


class Part(BaseModel):
    """A mapping in a record."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow", allow_inf_nan=False, protected_namespaces=())

    @classmethod
    def of(cls, document: object) -> Self:
        """Return what a JSON document holds.

        Raises:
            WrongField: a field is missing or of a wrong type, or a number in it is not finite.
        """
        if not isinstance(document, dict):
            raise WrongField("", f"is {SHORT.repr(document)}, not a mapping")
        if (fault := _fault(document)) is not None:
            raise WrongField(_path(reversed(fault[0])), fault[1])
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise _first(error) from None

    def document(self) -> dict[str, Any]:
        """Return the JSON document again: what :meth:`of` was given, value by value."""
        return self.model_dump(by_alias=True, exclude_unset=True)


def _fault(value: Any, depth: int = 0) -> tuple[list[str], str] | None:
    """Return where something is not JSON, not finite, too large or too deep, from the inside out, and what it is."""
    if value is None or (isinstance(value, str) and _is_text(value)):
        return None
    if isinstance(value, int):
        return None if -LARGEST <= value < LARGEST else ([], f"is {SHORT.repr(value)}, too large a number")
    if isinstance(value, float):
        return None if math.isfinite(value) else ([], f"is {value}, not a finite number")
    if not isinstance(value, dict | list | tuple):
        return [], f"is {SHORT.repr(value)}, not a JSON value"
    if depth == DEEPEST:
        return [], f"is nested more than {DEEPEST} deep"
    for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if (fault := _fault(inner, depth + 1)) is not None or (fault := _fault(name)) is not None:
            return [*fault[0], str(name)], fault[1]
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
    return ".".join(map(printable, names))


def printable(name: object) -> str:
    """Return a name, quoted where it would not be one line of plain text."""
    return text if (text := str(name)).isprintable() else ascii(text)


def _first(error: ValidationError) -> WrongField:
    """Return the first fault of several as one line."""
    fault = error.errors(include_url=False)[0]
    place = [part for part in fault["loc"] if not str(part).startswith("<")]  # without the tags of a union
    inner = fault.get("ctx", {}).get("error")
    if isinstance(inner, WrongField):
        return WrongField(_path([*place, inner.field]), inner.what)
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if fault["type"] == "missing":
        message = "is missing"
    elif fault["type"] != "value_error":
        message = f"{message[:1].lower()}{message[1:]}, not {SHORT.repr(fault['input'])}"
    return WrongField(_path(place), message)
