"""Tables as HTML: a fragment that carries its own style, escapes every text and can be read by a screen reader."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from bench.report.tables.layout import Table, letter
from bench.report.tables.markup import legend

if TYPE_CHECKING:
    from jinja2 import Template

TEMPLATES = Path(__file__).parent


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("table.html.j2")


def html(tables: Sequence[Table], *, name: str = "table") -> str:
    """Return tables as one HTML fragment.

    Args:
        tables: in the order of the page.
        name: prefix of the identifiers, unique on a page.
    """
    legends = [legend(table, best="bold", equal="underlined", grey="grey") for table in tables]
    return _template().render(tables=tables, legends=legends, letter=letter, name=name) + "\n"
