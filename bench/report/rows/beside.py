"""What may lie beside published records: responses of models that write, and what is said of tasks on files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from bench.errors import RequestError
from bench.models.files import read_json
from bench.suites.suite import read_yaml

Content = TypeVar("Content")
EXAMPLES, TASKS = "examples.json", "tasks.yaml"
Examples = Mapping[str, Sequence[Mapping[str, str]]]  # by key of a cell
Tasks = Mapping[str, Mapping[str, str]]  # by name: ``what``, ``source`` and ``licence``


def examples(folder: Path) -> Examples:
    """Return the responses in a folder, see :func:`bench.analysis.responses.by_cell`; empty without the file."""
    path = folder / EXAMPLES
    return _checked(path, TypeAdapter(dict[str, list[dict[str, str]]]), read_json(path)) if path.is_file() else {}


def tasks(folder: Path) -> Tasks:
    """Return what a folder says of its tasks; empty without the file."""
    path = folder / TASKS
    return _checked(path, TypeAdapter(dict[str, dict[str, str]]), read_yaml(path)) if path.is_file() else {}


def _checked(path: Path, kind: TypeAdapter[Content], content: object) -> Content:
    try:
        return kind.validate_python(content)
    except ValidationError as error:
        raise RequestError(f"{path}: {str(error).splitlines()[1].strip()}: {error.errors()[0]['msg']}.") from None
