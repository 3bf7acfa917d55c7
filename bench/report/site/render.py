"""Templates to pages: every text is escaped, and every number has one form."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.contracts import Needs
from bench.contracts.needs import ONLY_THE_MODEL
from bench.experiment.metrics import ACCURACY, BACKDOOR, COST, RANKING, Metric
from bench.experiment.roles import BASELINES
from bench.report.ranking import facts
from bench.report.ranking.matched import LIMITS
from bench.report.ranking.results import Setting
from bench.report.ranking.signs import Sign, signs
from bench.report.site.names import slug
from bench.report.site.views import BoardView, record_token
from bench.store.words import counted

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"
_LONG_WORD = re.compile(r"\b([^\W\d_]{9})(?=[^\W\d_]{4})")  # a word of 13 letters or more, before its ending
LONGEST_PART = 24  # characters of a part of a name that is never broken
_PARTS = re.compile(r"[^+,(/=\s]*[+,(/=\s]*")  # of a name, each with what joins it to the next
_CODE = re.compile(r"`+([^`]+)`+")
MINUS, NONE = "−", "–"


def number(value: float, digits: int = 1) -> str:
    """Return a number for people; a dash where there is none."""
    if math.isnan(value):
        return NONE
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", MINUS)


def order(value: float | None) -> str:
    """Return what a column sorts by; nothing where there is no number."""
    return "" if value is None or math.isnan(value) else f"{value:.4f}"


def ratio(value: float) -> str:
    """Return a ratio of seconds."""
    return NONE if math.isnan(value) else f"{number(value, 2 if value < 1 else 1 if value < 10 else 0)}×"


def spread(cell: Mapping[str, Any], metric: Metric) -> str:
    """Return mean and standard deviation over seeds."""
    mean, deviation = cell["means"][metric.name], cell["deviations"].get(metric.name, math.nan)
    text = number(mean, metric.decimals)
    return text + ("" if math.isnan(deviation) else f" ± {number(deviation, metric.decimals)}")


def breakable(title: str) -> Markup:
    """Return the title of a column with places where a narrow table may break it."""
    from markupsafe import Markup, escape

    text = escape(title).replace("·", Markup("·<wbr>"))
    return Markup(_LONG_WORD.sub("\\1&shy;", str(text)))


def parted(name: str) -> Markup:
    """Return a name with places where a narrow column may break it: after what joins its parts, never inside a part."""
    from markupsafe import Markup, escape

    part = Markup('<span class="part">{}</span>').format
    parts = filter(None, _PARTS.findall(name))
    return Markup("<wbr>").join(part(one) if len(one) <= LONGEST_PART else escape(one) for one in parts)


def coded(text: str) -> Markup:
    """Return a text in which what stands between backticks is code."""
    from markupsafe import Markup, escape

    parts = _CODE.split(text)  # every second one stood between them
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if i % 2 else escape(part) for i, part in enumerate(parts)
    )


def arrow(metric: Metric) -> str:
    """Return an arrow towards what is better, for a heading."""
    return {"higher": " ↑", "lower": " ↓"}.get(metric.better or "", "")


def counting_of(view: BoardView, places: Sequence[Setting]) -> list[Setting]:
    """Return those of the places where the attack implanted and defenses are compared."""
    return view.leaderboard.counting(places)


def detection_attacks(view: BoardView) -> list[str]:
    """Return the attacks whose victims any detector has judged."""
    attacks = (name for one in view.detections for name in one.areas if name != "all attacks")
    return list(dict.fromkeys(attacks))


@cache
def environment() -> Environment:
    """Return the templates, with autoescape, and an error for every name that a page lacks."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals.update(
        number=number,
        order=order,
        ratio=ratio,
        spread=spread,
        breakable=breakable,
        counted=counted,
        parted=parted,
        coded=coded,
        arrow=arrow,
        sign_kinds=[sign for sign in Sign if sign.mark],
        facts=facts,
        ranking=RANKING,
        backdoor=BACKDOOR,
        limits=LIMITS,
        accuracy=ACCURACY,
        cost=COST,
        slug=slug,
        token=record_token,
        counting_of=counting_of,
        signs_of=signs,
        detection_attacks=detection_attacks,
        needs={need.value: need for need in Needs},
        oracle=Needs.ORACLE,
        only_the_model=ONLY_THE_MODEL,
        baselines=BASELINES[::-1],
    )
    return templates


def page(template: str, **content: Any) -> str:
    """Return a page."""
    defaults: dict[str, Any] = {"root": "../", "tables": True, "scripts": (), "here": "", "base": ""}
    return environment().get_template(f"{template}.html.j2").render(defaults | content) + "\n"
