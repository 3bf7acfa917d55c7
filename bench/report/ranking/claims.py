"""Claims as code: contrasts of cells, judged with their intervals; never from fewer than three seeds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from bench.errors import RequestError
from bench.experiment.metrics import Show, shown
from bench.experiment.roles import VICTIM
from bench.report.ranking.contrasts import Measured, measure
from bench.report.ranking.results import Results, Setting
from bench.report.ranking.statistics import Estimate, holm
from bench.report.rows.row import Row
from bench.suites.suite import Gate

FILE = Path(__file__).with_name("claims.yaml")
LEAST_SEEDS = 3
ALPHA = 0.025  # one-sided, so that a verdict agrees with the 95 % interval
CLAIMED = {metric.name: metric for metric in shown(Show.CLAIMS)}
Outcome = Literal["supported", "refuted", "undecided"]


class Contrast(BaseModel):
    """A bound on a mean difference between two defenses, or on the level of one, in percentage points."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str = Field(description="what is compared")
    of: str = Field(description="a defense")
    minus: str | None = Field(None, description="another one, or none for the victim; without it, the level of `of`")
    below: float | None = Field(None, description="the claim: the truth is less than this")
    above: float | None = Field(None, description="the claim: the truth is more than this")

    @field_validator("metric")
    @classmethod
    def _can_be_claimed(cls, name: str) -> str:
        if name not in CLAIMED:
            raise ValueError(f"unknown metric. Valid: {', '.join(CLAIMED)}")
        return name

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if (self.below is None) == (self.above is None):
            raise ValueError("give exactly one of below and above")
        return self

    @property
    def words(self) -> str:
        """The contrast in words."""
        bound = f"< {self.below:g}" if self.below is not None else f"> {self.above:g}"
        return f"{CLAIMED[self.metric].title} of {self.of}{f' − {self.minus}' if self.minus else ''} {bound}"

    def p_for(self, estimate: Estimate) -> float:
        """Return the one-sided p-value that is small where the contrast holds."""
        if self.below is not None:
            return estimate.p_below(self.below)
        assert self.above is not None
        return estimate.p_above(self.above)

    def p_against(self, estimate: Estimate) -> float:
        """Return the one-sided p-value that is small where the opposite holds."""
        if self.below is not None:
            return estimate.p_above(self.below)
        assert self.above is not None
        return estimate.p_below(self.above)


class Claim(BaseModel):
    """A statement and the contrasts that it comes down to; all of them have to hold, in every group."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", description="how reports call it")
    statement: str = Field(description="the claim as one sentence")
    origin: str = Field(description="where it is stated, and how we read it")
    attacks: tuple[str, ...] = Field(("*",), description="patterns of attacks")
    tasks: tuple[str, ...] = Field(("*",), description="patterns of tasks")
    each: tuple[Literal["task", "attack"], ...] = Field((), description="it has to hold in each of these")
    tasks_needed: int = Field(1, ge=1, description="tasks that have to be there to support it")
    attacks_needed: int = Field(1, ge=1, description="patterns of attacks that have to match for that")
    most_clean: int | None = Field(None, ge=1, description="most clean examples to tune on")
    tests: tuple[Contrast, ...] = Field(min_length=1, description="the contrasts")

    def speaks_of(self, place: Setting) -> bool:
        """Return whether a place belongs to the claim."""
        attack = any(fnmatchcase(place.attack, pattern) for pattern in self.attacks)
        return attack and any(fnmatchcase(place.task, pattern) for pattern in self.tasks)

    def group(self, place: Setting) -> str:
        """Return the group of a place, e.g. ``task=imdb``; empty where the claim is about the mean of all."""
        return ", ".join(f"{axis}={getattr(place, axis)}" for axis in self.each)


@dataclass(frozen=True)
class Finding:
    """What one contrast says in one group, and why where it decides nothing."""

    contrast: Contrast
    group: str
    measured: Measured
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True)
class Verdict:
    """What the records say about a claim."""

    claim: Claim
    outcome: Outcome
    reason: str
    findings: tuple[Finding, ...] = ()


def read(path: Path = FILE) -> list[Claim]:
    """Read a file of claims.

    Raises:
        RequestError: it is not readable, or a field is wrong; one line with the place.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RequestError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(data, list):
        raise RequestError(f"{path}: a list of claims is expected.")
    try:
        return [Claim.model_validate(item) for item in data]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RequestError(f"{path}: {where or 'a claim'}: {first['msg']}; got {first['input']!r}.") from None


def check(rows: Iterable[Row], *, claims: Sequence[Claim] | None = None, gate: Gate | None = None) -> list[Verdict]:
    """Judge claims (the paper's by default) by the cells of a suite; only victims that implanted count."""
    results = Results(rows, gate=gate)
    return [judge(claim, results) for claim in (read() if claims is None else claims)]


def judge(claim: Claim, results: Results) -> Verdict:
    """Return the verdict on one claim.

    Supported: every contrast holds in every group, each at 2.5 % one-sided, and enough tasks and attacks are there.
    Refuted: the opposite of some contrast is significant after Holm's correction over all of them. A place where the
    attack implanted on fewer than three seeds is left out where others have more: seeds are paired over places, and it
    would take away those of the others.
    """
    found = [place for place in results.places if claim.speaks_of(place) and results.state(place) == "implanted"]
    if not found:
        return Verdict(claim, "undecided", "no attack that it speaks of is in this suite and implanted")
    places = [place for place in found if len(results.used_seeds(place)) >= LEAST_SEEDS] or found
    measured: list[tuple[Contrast, str, Measured]] = []
    for group in dict.fromkeys(claim.group(place) for place in places):
        members = [place for place in places if claim.group(place) == group]
        for test in claim.tests:
            measured.append((test, group, _measured(test, claim, results, members)))
    findings = _findings(measured, there={VICTIM.spelling, *(line.defense for line in results.lines)})
    outcome, reason = _overall(claim, findings, places)
    if left := len(found) - len(places):
        reason += f"; {left} of {len(found)} places left out, with fewer than {LEAST_SEEDS} seeds"
    return Verdict(claim, outcome, reason, findings)


def _measured(test: Contrast, claim: Claim, results: Results, members: Sequence[Setting]) -> Measured:
    metric, most = CLAIMED[test.metric], claim.most_clean
    return measure(results, members, metric=metric, of=test.of, minus=test.minus, most_clean=most)


def _findings(measured: Sequence[tuple[Contrast, str, Measured]], there: Collection[str]) -> tuple[Finding, ...]:
    """Decide each contrast; refutations are corrected for how many there are."""
    enough = [one.estimate is not None and one.seeds >= LEAST_SEEDS for _, _, one in measured]
    against = [
        test.p_against(one.estimate) if good and one.estimate else 1.0
        for (test, _, one), good in zip(measured, enough, strict=True)
    ]
    found = []
    for (test, group, one), good, opposite in zip(measured, enough, holm(against), strict=True):
        outcome: Outcome = "undecided"
        reason = ""
        if one.estimate is None:
            absent = [name for name in (test.of, test.minus) if name and name not in there]
            reason = f"{' and '.join(absent)} not run here" if absent else "no finished cells to compare"
        elif not good:
            reason = f"{one.seeds} of at least {LEAST_SEEDS} seeds"
        elif test.p_for(one.estimate) < ALPHA:
            outcome = "supported"
        elif opposite < ALPHA:
            outcome = "refuted"
        else:
            reason = "not significant either way"
        found.append(Finding(test, group, one, outcome, reason))
    return tuple(found)


def _overall(claim: Claim, findings: Sequence[Finding], places: Sequence[Setting]) -> tuple[Outcome, str]:
    outcomes = [finding.outcome for finding in findings]
    total = len(outcomes)
    tasks = len({place.task for place in places})
    attacks = sum(any(fnmatchcase(place.attack, pattern) for place in places) for pattern in claim.attacks)
    if "refuted" in outcomes:
        return "refuted", f"{outcomes.count('refuted')} of {total} tests say the opposite"
    if "undecided" in outcomes:
        return "undecided", f"{outcomes.count('undecided')} of {total} tests are undecided"
    if tasks < claim.tasks_needed:
        return "undecided", f"holds on {tasks} of the {claim.tasks_needed} tasks that it speaks of"
    if attacks < claim.attacks_needed:
        return "undecided", f"holds for {attacks} of the {claim.attacks_needed} attacks that it speaks of"
    return "supported", f"all {total} tests hold"
