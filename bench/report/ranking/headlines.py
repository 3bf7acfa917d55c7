"""What a board says in a few sentences: the front page, and the top of each board."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from bench.experiment.metrics import BACKDOOR, COST, RANKING
from bench.report.ranking.competition import Competitor
from bench.report.ranking.detection import ALL, Detection
from bench.report.ranking.leaderboard import Leaderboard, Standing
from bench.report.ranking.results import LEAST_RATING
from bench.report.ranking.signs import Sign, signs, signs_of_detectors
from bench.store.words import counted


def headline(leaderboard: Leaderboard, standings: Sequence[Standing], label: Callable[[Competitor], str]) -> str:
    """Return what a board says, for somebody who reads nothing else: who is best, by how much, and how sure.

    Args:
        leaderboard: of the board.
        standings: all of it, best rank first.
        label: returns how a line is called.
    """
    if not leaderboard.places:
        return "Nothing is ranked yet: no attack has implanted where a defense is finished."
    by_sign: dict[Sign, list[Standing]] = {sign: [] for sign in Sign}
    given = signs(standings)
    for standing in standings:
        by_sign[given[standing.line]].append(standing)
    ranked = [standing for standing in standings if given[standing.line] is not Sign.UNRANKED]
    if not ranked:
        return "Nothing is ranked yet: no defense is finished everywhere."
    if len(ranked) == 1:
        return f"One defense was run, which is no ranking: {label(ranked[0].line)}. {_leaves(ranked[0], leaderboard)}"
    if not by_sign[Sign.BEST]:
        first = ranked[0]
        return (
            f"No defense helps: none of the {len(ranked)} reaches a {RANKING.title} of {LEAST_RATING:g}, and doing "
            f"nothing has 50. First is {label(first.line)}. {_leaves(first, leaderboard)}"
        )
    (first,) = by_sign[Sign.BEST]
    parts = [f"{label(first.line)} is best of {len(ranked)}. {_leaves(first, leaderboard)}"]
    for sign, words in ((Sign.EQUAL, "As good"), (Sign.OPEN, "Not told apart from it")):
        if by_sign[sign]:
            parts.append(f"{words}: {_some([label(standing.line) for standing in by_sign[sign]])}.")
    if behind := by_sign[Sign.BEHIND]:
        parts.append(_behind([label(standing.line) for standing in behind]))
    return " ".join(parts)


def _behind(names: Sequence[str]) -> str:
    return f"The other {len(names)} are behind." if len(names) > 1 else f"{names[0]} is behind."


def _leaves(standing: Standing, leaderboard: Leaderboard) -> str:
    """Return what a defense does to the backdoor and to the accuracy, beside no defense and the clean model."""
    before, floor = leaderboard.reference("victim"), leaderboard.reference("floor")
    left, accuracy = standing.means[BACKDOOR.name], standing.means[COST.name]
    lost = f"it {'costs' if accuracy > 0 else 'gains'} {abs(accuracy):.1f} points of accuracy"
    if abs(accuracy) < 0.05:
        lost = "accuracy is as before"
    return (
        f"The trigger still turns {_percent(left)} of what the model gets right, without a defense "
        f"{_percent(before[BACKDOOR.name])} and in a clean model {_percent(floor[BACKDOOR.name])}; {lost}."
    )


def detectors(detections: Sequence[Detection], label: Callable[[Competitor], str]) -> str:
    """Return what a board of detectors says, as :func:`headline` does."""
    by_sign: dict[Sign, list[Detection]] = {sign: [] for sign in Sign}
    given = signs_of_detectors(detections)
    for one in detections:
        by_sign[given[one.line]].append(one)
    judged = [one for one in detections if one.areas[ALL] is not None]
    if not judged:
        return "Nothing is ranked yet: no detector has judged both victims and clean models of a task."
    first = judged[0]
    area = first.areas[ALL]
    assert area is not None
    over = f"over {counted(first.poisoned, 'victim')} and {counted(first.clean, 'clean model')}"
    number = f"AUROC {100 * area.value:.1f} [{100 * area.low:.1f}, {100 * area.high:.1f}] {over}; 50 is guessing"
    if len(judged) == 1:
        return f"One detector was run, which is no ranking: {label(first.line)}, {number}."
    if not by_sign[Sign.BEST]:
        return f"No detector is shown to beat guessing. The first of {len(judged)} is {label(first.line)}: {number}."
    open_ = [label(one.line) for one in by_sign[Sign.OPEN]]
    rest = f" Not told apart from it: {_some(open_)}." if open_ else ""
    if behind := by_sign[Sign.BEHIND]:
        rest += f" {_behind([label(one.line) for one in behind])}"
    return f"{label(first.line)} tells victims from clean models best of {len(judged)}: {number}.{rest}"


def _some(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1f}\u00a0%"
