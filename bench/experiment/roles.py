"""What a cell is: a defense at work, or one of the two baselines that every number is read against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["defended", "detected", "victim", "floor"]
DEFENDED: tuple[Role, ...] = ("defended", "detected")  # where a defense is at work


@dataclass(frozen=True)
class Baseline:
    """A model that no defense has touched.

    Attributes:
        role: of its cells.
        spelling: what stands for the defense in suites, records and selectors.
        label: how tables, figures and pages call it.
        column: what the columns of export with its metrics start with.
    """

    role: Role
    spelling: str
    label: str
    column: str


FLOOR = Baseline("floor", spelling="clean model", label="clean model", column="clean")
VICTIM = Baseline("victim", spelling="none", label="no defense", column="victim")
BASELINES = (FLOOR, VICTIM)  # in the order of tables
SPELLINGS = {baseline.role: baseline.spelling for baseline in BASELINES}
