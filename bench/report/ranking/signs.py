"""What is said of a line beside the best one. Tables, pages and sentences all say it by these signs, and only these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from bench.experiment.metrics import RANKING
from bench.report.ranking.competition import Competitor
from bench.report.ranking.detection import ALL, Detection
from bench.report.ranking.leaderboard import Standing
from bench.report.ranking.results import LEAST_RATING, MARGIN

GUESSING = 0.5  # AUROC


class Sign(StrEnum):
    """How a line stands to the best one.

    Attributes:
        mark: the character in front of a rank.
        words: for the legend.
    """

    BEST = "best", "★", f"highest {RANKING.title}, of {LEAST_RATING:g} or more"
    EQUAL = "equal", "≈", f"as good: shown to be within {MARGIN:g} points of {RANKING.title} of ★"
    OPEN = "open", "?", "not told apart from ★: with other tasks, attacks, trainings or examples it may be ahead"
    BEHIND = "behind", "", "behind ★"
    UNRANKED = "unranked", "–", "not ranked: not finished everywhere, or told the trigger"

    mark: str
    words: str

    def __new__(cls, name: str, mark: str = "", words: str = "") -> Sign:
        """Return a member: its value is its name in files."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.mark, member.words = mark, words
        return member


def signs(standings: Sequence[Standing]) -> dict[Competitor, Sign]:
    """Return the sign of every line of a board.

    What is shown to be as good is as good, however sure the order of the two is: a small lead may be a sure one. Of
    the others, those are open that may be better, see :class:`Standing`.
    """
    best = next((standing for standing in standings if standing.mark == "best"), None)
    return {standing.line: _sign(standing, best) for standing in standings}


def _sign(standing: Standing, best: Standing | None) -> Sign:
    if standing.rank is None:
        return Sign.UNRANKED
    if best is None or best.rank is None:
        return Sign.BEHIND
    if standing.mark:
        return Sign(standing.mark)
    return Sign.OPEN if standing.rival else Sign.BEHIND


def signs_of_detectors(detections: Sequence[Detection]) -> Mapping[Competitor, Sign]:
    """Return the sign of every detector: the best is the one with the highest AUROC, if it is shown to beat guessing.

    Those are open whose interval reaches that of the best.
    """
    known = {one.line: area for one in detections if (area := one.areas[ALL]) is not None}
    first = max(known, key=lambda line: known[line].value, default=None)
    given: dict[Competitor, Sign] = {}
    for one in detections:
        if first is None or one.line not in known:
            given[one.line] = Sign.UNRANKED
        elif known[first].low <= GUESSING:
            given[one.line] = Sign.BEHIND
        elif one.line == first:
            given[one.line] = Sign.BEST
        else:
            given[one.line] = Sign.OPEN if known[one.line].high >= known[first].low else Sign.BEHIND
    return given
