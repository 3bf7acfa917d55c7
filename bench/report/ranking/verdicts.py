"""Predictions on claims for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench.report.ranking.claims import Finding, Outcome, Verdict

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

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


def renderables(verdicts: Sequence[Verdict]) -> list[RenderableType]:
    """Return verdicts for a terminal: each claim in a sentence, then its tests."""
    from rich.text import Text

    parts: list[RenderableType] = []
    for verdict in verdicts:
        head = Text.assemble(
            (verdict.outcome.upper(), f"bold {STYLES[verdict.outcome]}"), "  ", (verdict.claim.name, "bold")
        )
        parts += [head, Text(verdict.claim.statement), Text(f"{verdict.claim.origin}. {verdict.reason}.", "dim")]
        parts += [_tests(verdict.findings) if verdict.findings else Text()]
    note = (
        "Effects in percentage points with 95 % intervals over trainings and test examples. Outcomes are those of "
        "sign-flip tests over trainings, 2.5 % a side for all claims of this page together."
    )
    parts.append(Text(note, "dim"))
    return parts


def _tests(findings: Sequence[Finding]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("test", overflow="fold")
    grouped = any(finding.group for finding in findings)
    if grouped:
        table.add_column("where", overflow="fold")
    for name in ("effect", "interval", "p", "trainings", "places", "labels"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("outcome", overflow="fold")
    for finding in findings:
        estimate = finding.measured.estimate
        effect = "–" if estimate is None else f"{estimate.value:.1f}"
        interval = "–" if estimate is None else f"[{estimate.low:.1f}, {estimate.high:.1f}]"
        reason = f": {finding.reason}" if finding.reason else ""
        outcome = Text(finding.outcome + reason, STYLES[finding.outcome])
        cells = [Text(finding.contrast.words), Text(effect), Text(interval)]
        cells += [Text("–" if finding.p_value is None else f"{finding.p_value:.3f}"), Text(str(finding.measured.seeds))]
        where = [Text(finding.group)] if grouped else []
        clean = ", ".join(map(str, finding.measured.clean)) or "–"
        table.add_row(cells[0], *where, *cells[1:], Text(str(finding.measured.places)), Text(clean), outcome)
    return table
