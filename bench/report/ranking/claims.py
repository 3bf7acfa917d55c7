"""Claims as code: contrasts of cells, judged by sign-flip tests over trainings.

The claims of a page share one level (Bonferroni). A claim is supported where all of its tests hold, so those need no
further correction (an intersection-union test); it is refuted where any of its tests says the opposite, so those are
corrected by Holm within the claim. Trainings that are too few to reach the level decide nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from bench.errors import RequestError
from bench.experiment.metrics import Show, shown
from bench.experiment.roles import VICTIM
from bench.report.ranking.contrasts import Measured, measure
from bench.report.ranking.results import Results, Setting
from bench.report.ranking.statistics import Estimate, holm
from bench.report.rows.row import Row
from bench.store.words import counted
from bench.suites import strict
from bench.suites.suite import Gate

FILE = Path(__file__).with_name("claims.yaml")
ALPHA = 0.025  # of each side, for all claims of a page together
MOST_TRAININGS = 1000  # beyond, it is only said that more would be needed
CLAIMED = {metric.name: metric for metric in shown(Show.CLAIMS)}
Outcome = Literal["supported", "refuted", "undecided"]


class Contrast(BaseModel):
    """A bound on a mean difference between two defenses, or on the level of one, in percentage points.

    ``within`` claims equivalence: that a difference is closer to 0 than this, by two one-sided tests.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    metric: str = Field(description="what is compared")
    of: str = Field(description="a defense")
    minus: str | None = Field(None, description="another one, or none for the victim; without it, the level of `of`")
    below: float | None = Field(None, description="the claim: the truth is less than this")
    above: float | None = Field(None, description="the claim: the truth is more than this")
    within: float | None = Field(None, gt=0, description="the claim: the truth is closer to 0 than this")

    @field_validator("metric")
    @classmethod
    def _can_be_claimed(cls, name: str) -> str:
        if name not in CLAIMED:
            raise ValueError(f"unknown metric. Valid: {', '.join(CLAIMED)}")
        return name

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if sum(bound is not None for bound in (self.below, self.above, self.within)) != 1:
            raise ValueError("give exactly one of below, above and within")
        return self

    @property
    def words(self) -> str:
        """The contrast in words."""
        what = f"{CLAIMED[self.metric].title} of {self.of}{f' − {self.minus}' if self.minus else ''}"
        if self.within is not None:
            return f"{what} within ±{self.within:g}"
        return f"{what} " + (f"< {self.below:g}" if self.below is not None else f"> {self.above:g}")

    def p_for(self, estimate: Estimate) -> float:
        """Return the p-value that is small where the contrast holds."""
        if self.within is not None:
            return estimate.p_within(self.within)
        return estimate.p_below(self.below) if self.below is not None else estimate.p_above(self._above)

    def p_against(self, estimate: Estimate) -> float:
        """Return the p-value that is small where the opposite holds."""
        if self.within is not None:
            return min(1.0, 2 * min(estimate.p_above(self.within), estimate.p_below(-self.within)))
        return estimate.p_above(self.below) if self.below is not None else estimate.p_below(self._above)

    def needed(self, estimate: Estimate, *, alpha: float) -> int:
        """Return how many trainings would decide, if the truth is as estimated."""
        if self.within is not None:
            return max(estimate.trainings_needed(bound, alpha=alpha) for bound in (-self.within, self.within))
        return estimate.trainings_needed(self.below if self.below is not None else self._above, alpha=alpha)

    @property
    def _above(self) -> float:
        assert self.above is not None
        return self.above


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
    most_clean: int | None = Field(None, ge=1, description="most labels that a defense may see")
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
    """What one contrast says in one group.

    Attributes:
        contrast: what is tested.
        group: where, see :meth:`Claim.group`.
        measured: the mean contrast.
        outcome: of the test.
        reason: why it decides nothing.
        p_value: of what the contrast says, corrected for the claims of the page; None where nothing is measured.
        needed: how many trainings would decide, from the spread seen; None where the test decides or nothing is
            measured.
    """

    contrast: Contrast
    group: str
    measured: Measured
    outcome: Outcome
    reason: str = ""
    p_value: float | None = None
    needed: int | None = None


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
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: not UTF-8 at byte {error.start}.") from None
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror}.") from None
    data = strict.load(text, str(path))
    if not isinstance(data, list) or not data:
        raise RequestError(f"{path}: a list of claims is expected.")
    claims = [_claim(item, where=f"{path}: claim {number}") for number, item in enumerate(data, 1)]
    names = [claim.name for claim in claims]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise RequestError(f"{path}: two claims are called {twice!r}.")
    return claims


def _claim(item: object, *, where: str) -> Claim:
    try:
        return strict.validated(Claim, item)
    except ValidationError as error:
        fault = " ".join(part for part in strict.first_fault(error, Claim) if part)
        raise RequestError(f"{where}: {fault}.") from None


@dataclass(frozen=True)
class Test:
    """One contrast of a claim in one group."""

    contrast: Contrast
    group: str
    measured: Measured


def check(rows: Iterable[Row], *, claims: Sequence[Claim] | None = None, gate: Gate | None = None) -> list[Verdict]:
    """Judge claims (the paper's by default) by the cells of a suite; only victims that implanted count."""
    return judge(read() if claims is None else claims, Results(rows, gate=gate))


def judge(claims: Sequence[Claim], results: Results) -> list[Verdict]:
    """Return the verdict on each claim.

    Supported: every contrast holds in every group, and enough tasks and attacks are there. Refuted: the opposite of
    some contrast is significant.
    """
    implanted = [place for place in results.places if results.state(place) == "implanted"]
    places = {claim.name: [place for place in implanted if claim.speaks_of(place)] for claim in claims}
    tests = {claim.name: list(_tests(claim, results, places[claim.name])) for claim in claims}
    known = {VICTIM.spelling, *(line.defense for line in results.lines)}
    family = sum(any(test.measured.estimate is not None for test in own) for own in tests.values())
    return [_verdict(claim, _findings(tests[claim.name], known, family), places[claim.name]) for claim in claims]


def _tests(claim: Claim, results: Results, places: Sequence[Setting]) -> Iterator[Test]:
    for group in dict.fromkeys(claim.group(place) for place in places):
        members = [place for place in places if claim.group(place) == group]
        for contrast in claim.tests:
            measured = measure(
                results,
                members,
                metric=CLAIMED[contrast.metric],
                of=contrast.of,
                minus=contrast.minus,
                most_clean=claim.most_clean,
            )
            yield Test(contrast, group, measured)


def _findings(tests: Sequence[Test], known: Collection[str], family: int) -> list[Finding]:
    """Decide the tests of one claim, of ``family`` claims that have anything to compare."""
    estimates = [test.measured.estimate for test in tests]
    against = [1.0 if e is None else test.contrast.p_against(e) for test, e in zip(tests, estimates, strict=True)]
    findings = []
    for test, estimate, refute in zip(tests, estimates, holm(against), strict=True):
        if estimate is None:
            findings.append(_nothing(test, known))
            continue
        support = min(1.0, family * test.contrast.p_for(estimate))
        outcome: Outcome = "supported" if support < ALPHA else "refuted" if family * refute < ALPHA else "undecided"
        needed = test.contrast.needed(estimate, alpha=ALPHA / family) if outcome == "undecided" else None
        reason = "" if needed is None else _undecided(test.measured.seeds, needed)
        findings.append(Finding(test.contrast, test.group, test.measured, outcome, reason, support, needed))
    return findings


def _undecided(trainings: int, needed: int) -> str:
    many = f"about {needed}" if needed <= MOST_TRAININGS else f"more than {MOST_TRAININGS}"
    return f"not significant either way with {counted(trainings, 'training')}; {many} would decide"


def _nothing(test: Test, known: Collection[str]) -> Finding:
    absent = [name for name in (test.contrast.of, test.contrast.minus) if name and name not in known]
    reason = f"{' and '.join(absent)} not run here" if absent else "no finished cells to compare"
    return Finding(test.contrast, test.group, test.measured, "undecided", reason)


def _verdict(claim: Claim, findings: Sequence[Finding], places: Sequence[Setting]) -> Verdict:
    if not findings:
        return Verdict(claim, "undecided", "no attack that it speaks of is in this suite and implanted")
    return Verdict(claim, *_overall(claim, findings, places), tuple(findings))


def _overall(claim: Claim, findings: Sequence[Finding], places: Sequence[Setting]) -> tuple[Outcome, str]:
    outcomes = [finding.outcome for finding in findings]
    total = len(outcomes)
    tasks = len({place.task for place in places})
    attacks = sum(any(fnmatchcase(place.attack, pattern) for place in places) for pattern in claim.attacks)
    if "refuted" in outcomes:
        return "refuted", f"the opposite in {outcomes.count('refuted')} of {counted(total, 'test')}"
    if "undecided" in outcomes:
        return "undecided", f"{outcomes.count('undecided')} of {counted(total, 'test')} undecided"
    if tasks < claim.tasks_needed:
        return "undecided", f"holds on {tasks} of the {claim.tasks_needed} tasks that it speaks of"
    if attacks < claim.attacks_needed:
        return "undecided", f"holds for {attacks} of the {claim.attacks_needed} attacks that it speaks of"
    return "supported", "every test holds"
