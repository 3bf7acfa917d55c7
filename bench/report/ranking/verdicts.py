"""Predictions on claims for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from bench.report.ranking.claims import Finding, Outcome, Verdict

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

WIDE = 130  # characters of a line that a table of tests needs
STYLES: dict[Outcome, str] = {"supported": "green", "refuted": "red", "undecided": "yellow"}


def as_json(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Return verdicts as JSON values: effect and interval in percentage points, and the keys of the cells behind."""
    return [
        {
            "name": verdict.claim.name,
            "statement": verdict.claim.statement,
            "origin": verdict.claim.origin,
            "verdict": verdict.outcome,
            "reason": verdict.reason,
            "tests": [_test(finding) for finding in verdict.findings],
        }
        for verdict in verdicts
    ]


def _test(finding: Finding) -> dict[str, Any]:
    estimate = finding.measured.estimate
    return {
        "test": finding.contrast.words,
        "group": finding.group,
        "outcome": finding.outcome,
        "reason": finding.reason,
        "effect": None if estimate is None else estimate.value,
        "interval": None if estimate is None else [estimate.low, estimate.high],
        "p_value": finding.p_value,
        "trainings": finding.measured.seeds,
        "trainings_needed": finding.needed,
        "places": finding.measured.places,
        "labels": list(finding.measured.clean),
        "cells": list(finding.measured.cells),
    }


def renderables(verdicts: Sequence[Verdict], *, width: int = WIDE) -> list[RenderableType]:
    """Return verdicts for a terminal: each claim in a sentence, then its tests, as lines where a table would be cut."""
    from rich.text import Text

    parts: list[RenderableType] = []
    for verdict in verdicts:
        head = Text.assemble(
            (verdict.outcome.upper(), f"bold {STYLES[verdict.outcome]}"), "  ", (verdict.claim.name, "bold")
        )
        parts += [
            head,
            Text(verdict.claim.statement),
            Text(f"{_sentence(verdict.claim.origin)} {_sentence(verdict.reason)}", "dim"),
        ]
        if verdict.findings and width >= WIDE:
            parts.append(_tests(verdict.findings))
        else:
            parts += [*(line for finding in verdict.findings for line in _lines(finding)), Text()]
    note = (
        "Effects in percentage points with 95 % intervals over trainings and test examples. Outcomes are those of "
        "sign-flip tests over trainings, 2.5 % a side for all claims of this page together."
    )
    parts.append(Text(note, "dim"))
    return parts


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _numbers(finding: Finding) -> dict[str, str]:
    """Return the numbers of a test by their headings."""
    estimate, measured = finding.measured.estimate, finding.measured
    return {
        "effect": "–" if estimate is None else f"{estimate.value:.1f}",
        "interval": "–" if estimate is None else f"[{estimate.low:.1f}, {estimate.high:.1f}]",
        "p": "–" if finding.p_value is None else f"{finding.p_value:.3f}",
        "trainings": str(measured.seeds),
        "places": str(measured.places),
        "labels": ", ".join(map(str, measured.clean)) or "–",
    }


def _outcome(finding: Finding) -> Text:
    from rich.text import Text

    return Text(finding.outcome + (f": {finding.reason}" if finding.reason else ""), STYLES[finding.outcome])


def _lines(finding: Finding) -> Iterator[Text]:
    """Yield a test for a narrow terminal, which breaks lines between words."""
    from rich.text import Text

    where = f", {finding.group}" if finding.group else ""
    yield Text(f"* {finding.contrast.words}{where}")
    yield Text("  " + ", ".join(f"{name} {value}" for name, value in _numbers(finding).items()))
    yield Text.assemble("  ", _outcome(finding))


def _tests(findings: Sequence[Finding]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("test", overflow="fold")
    grouped = any(finding.group for finding in findings)
    if grouped:
        table.add_column("where", overflow="fold")
    for name in _numbers(findings[0]):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("outcome", overflow="fold")
    for finding in findings:
        where = [Text(finding.group)] if grouped else []
        numbers = [Text(value) for value in _numbers(finding).values()]
        table.add_row(Text(finding.contrast.words), *where, *numbers, _outcome(finding))
    return table
