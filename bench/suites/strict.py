"""Plain YAML and nothing else: no python tags, no aliases (so no alias bombs), no duplicate keys.

Words without quotes are what YAML 1.2 says: ``yes``, ``1:30`` and ``2020-01-01`` are texts, and ``1e-5`` is a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from bench.errors import RequestError, unknown

Model = TypeVar("Model", bound=BaseModel)
LONGEST_NUMBER = 40  # characters of an integer
DEEPEST = 40  # brackets inside brackets; a suite needs about five
_TYPE = re.compile(r"(str|function-\w+|constrained-\w+|dict|list)(\[|$)")  # pydantic's name of one type of several
_BREAKS = re.compile("[\x85\u2028\u2029]")  # line ends to YAML, and to few others
_RANGE = re.compile(r"\d+\s*(-|\.\.+|:)\s*\d+")
_WORDS = {  # by type: the words without quotes that have it, and the characters that these begin with
    "null": (r"~|null|Null|NULL|", "~nN"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
}


class _Loader(yaml.SafeLoader):
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            raise yaml.constructor.ConstructorError(None, None, "aliases are not allowed", event.start_mark)
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.constructor.ConstructorError(None, None, "nested too deeply", event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > LONGEST_NUMBER:
            raise yaml.constructor.ConstructorError(None, None, "this number is too long", node.start_mark)
        return int(super().construct_yaml_int(node))

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {name[:80]!r}", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
for _tag in ("set", "omap", "pairs", "binary", "timestamp"):  # nothing that JSON knows
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _Loader.construct_undefined)  # type: ignore[type-var]
_Loader.yaml_implicit_resolvers = {}
for _word, (_pattern, _first) in _WORDS.items():
    _whole = re.compile(rf"(?:{_pattern})\Z")
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_word}", _whole, [*_first, ""])


class _Dumper(yaml.SafeDumper):
    """Puts into quotes what either reader, this one or another, would take for something else than a text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True  # the loader takes none

    def represent_str(self, data: str) -> yaml.ScalarNode:
        style = '"' if _BREAKS.search(data) else None  # in other quotes they become spaces
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)
for _first, _resolvers in _Loader.yaml_implicit_resolvers.items():
    for _tag, _whole in _resolvers:
        _Dumper.add_implicit_resolver(_tag, _whole, [_first])


def dump(content: Any, **options: Any) -> str:
    """Return plain YAML that :func:`load` reads back as the same content."""
    text: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False, **options)
    return text


def load(text: str, where: str) -> Any:
    """Return the content of a text; every mistake is one line that begins with ``where`` and names the position."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise RequestError(f"{where}: {place}{error.problem}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RequestError(f"{where}: not readable as YAML: {str(error).splitlines()[0]}") from None


def load_value(text: str, where: str) -> Any:
    """Return the value in a text of one line, in which nothing is a comment and no line is folded into another."""
    before = " "
    for character, quoted in with_quotes(text):
        if character in "\r\n" and quoted:
            raise RequestError(f"{where}: a line ends inside the quotes; write it as \\n.")
        if character == "#" and not quoted and before.isspace():
            raise RequestError(f"{where}: from '#' on it would be a comment; put the whole text into double quotes.")
        before = character
    if text.strip() and "\n" in text.strip() and text.strip()[0] not in "[{":
        raise RequestError(f"{where}: a text of several lines; put it into double quotes, with \\n for a new line.")
    return load(text, where)


def with_quotes(text: str) -> Iterator[tuple[str, bool]]:
    """Yield every character, and whether it is inside quotes; as in YAML, only the beginning of a value is a quote."""
    mark, opens, escaped = "", "\"'", False
    for character in text:
        if mark:
            yield character, True
            if escaped or (mark == '"' and character == "\\"):
                escaped = not escaped
            elif character == mark:
                mark, opens = "", "'" if mark == "'" else ""  # two single quotes are one inside a text
            continue
        mark = character if character in opens else ""
        yield character, bool(mark)
        if character in "([{,=:+":
            opens = "\"'"
        elif not character.isspace() or opens == "'":
            opens = ""


def validated(model: type[Model], data: Any) -> Model:
    """Return the model of some fields, in which a text is no number, a number is no text and 1.0 is no integer.

    Raises:
        ValidationError: of pydantic; fields have the types of JSON, so that a list stands for a tuple.
        RequestError: a value is nothing that JSON knows.
    """
    try:
        text = to_json(data, inf_nan_mode="constants", by_alias=True)
    except PydanticSerializationError as error:
        raise RequestError(f"a value is neither text, number, list nor mapping: {error}.") from None
    return model.model_validate_json(text, strict=True)


def first_fault(error: ValidationError, model: type[BaseModel] | None = None) -> tuple[str, str]:
    """Return the field of the first mistake, and in words what is wrong and how to write it.

    With the ``model`` that was to be made, an unknown field comes with the names of those that are known.
    """
    faults = error.errors()
    first = next((fault for fault in faults if fault["type"] != "literal_error"), faults[0])  # of a choice or a number
    field = ".".join(str(part) for part in first["loc"] if not _TYPE.match(str(part)))
    if first["type"] == "missing":
        return field, "is missing"
    if first["type"] == "extra_forbidden" and model is not None:
        *above, name = first["loc"]
        known = str(unknown("field", str(name), _fields(model, above))).removesuffix(".")
        return f"{'.'.join(map(str, above))}:" if above else "", known
    message = first["msg"].removeprefix("Value error, ")
    reason = f"= {first['input']!r:.200}: {message}" if field else message
    if first["type"] == "string_type" and isinstance(first["input"], int | float):
        reason += f'; if it is a text, put it into quotes: "{first["input"]}"'
    if first["type"].startswith("int_") and _RANGE.fullmatch(str(first["input"])):
        reason += "; write several numbers as a list: 0,1,2"
    return field, reason


def _fields(model: type[BaseModel], place: Iterable[str | int]) -> list[str]:
    """Return the names of the fields of the mapping at a place inside a model."""
    for part in place:
        if part in model.model_fields:
            model = next(_models(model.model_fields[str(part)].annotation), model)
    return [info.alias or name for name, info in model.model_fields.items()]


def _models(kind: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that a type is made of."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for inner in get_args(kind):
        yield from _models(inner)
