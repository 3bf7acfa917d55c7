"""Plain YAML and nothing else: no python tags, no aliases (so no alias bombs), no duplicate keys."""

from __future__ import annotations

from typing import Any

import yaml

from bench.errors import RequestError

LONGEST_NUMBER = 40  # characters of an integer
DEEPEST = 40  # brackets inside brackets; a suite needs about five


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
