"""What a suite's cells say, in sentences: the last lines of a run, the front page of the site and RESULTS.md."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from bench.experiment.metrics import ACCURACY, BACKDOOR, COST, RANKING
from bench.report.ranking import boards
from bench.report.ranking.facts import YARDSTICK
from bench.report.ranking.leaderboard import Leaderboard, Standing
from bench.report.ranking.results import LEAST_RATING, Results
from bench.report.ranking.statistics import Estimate
from bench.report.rows.row import Row
from bench.store.words import counted
from bench.suites.suite import Gate

MOST_LISTED = 12  # defenses; of more, only the best three and the yardstick are told


def sentences(rows: Iterable[Row], *, gate: Gate | None = None) -> list[tuple[str, list[str]]]:
    """Return for each board that ranks defenses its title and what it says, a sentence each."""
    titled = []
    for name, part in boards.split(rows).items():
        if name.threat.judges_models:
            continue
        leaderboard = Leaderboard(Results(part, gate=gate))
        if leaderboard.results.lines:
            title = name.words
            titled.append((title[0].upper() + title[1:], list(board(leaderboard))))
    return titled


def board(leaderboard: Leaderboard) -> Iterator[str]:
    """Yield what a board says."""
    standings = leaderboard.standings()
    yield from _places(leaderboard, standings)
    if leaderboard.places:
        yield from _references(leaderboard)
        yield best(standings)
        yield from (_does(standing) for standing in _listed(standings))
    waiting = sum(row.status == "waiting" for row in leaderboard.results.rows)
    if waiting:
        yield f"{counted(waiting, 'cell')} of {len(leaderboard.results.rows)} {_is(waiting)} not there yet."


def best(standings: Sequence[Standing]) -> str:
    """Return which defense is best, by how much, and how sure that is.

    Args:
        standings: of a board, best rank first.
    """
    ranked = [standing for standing in standings if standing.rank and standing.rating]
    first = next((standing for standing in ranked if standing.mark == "best"), None)
    if first is None:
        return f"No defense reaches a {RANKING.title} of {LEAST_RATING:g}; doing nothing has 50."
    assert first.rating is not None and first.rank is not None
    sentence = (
        f"Highest {RANKING.title}: {first.line.defense}, {_interval(first.rating)}, a {BACKDOOR.title} of "
        f"{_number(first.means[BACKDOOR.name])} % at {_points(first.means[COST.name])}"
    )
    equals = [standing.line.defense for standing in ranked if standing.mark == "equal"]
    rivals = [s for s in ranked if s is not first and s.rank is not None and s.rank.low <= first.rank.high]
    if equals:
        sentence += f"; as good: {', '.join(equals)}"
    if rivals:
        sentence += f"; its rank may be as low as {first.rank.high:.0f} of {len(ranked)}"
    elif equals and len(equals) + 1 < len(ranked):
        sentence += "; no other reaches their ranks"
    elif len(ranked) > 1 and not equals:
        sentence += f"; no other of the {len(ranked)} reaches its rank"
    return sentence + "."


def _places(leaderboard: Leaderboard, standings: Sequence[Standing]) -> Iterator[str]:
    results = leaderboard.results
    failed = [place for place in results.places if results.state(place) == "not implanted"]
    if leaderboard.places:
        seeds = sorted({len(results.used_seeds(place)) for place in leaderboard.places})
        many = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        yield f"Means over {leaderboard.span()}; {many} seed{'s' * (seeds != [1])} each."
    else:
        yield "No attack has implanted yet where a defense is finished."
    if failed:
        yield f"Did not implant: {', '.join(f'{place.attack} on {place.task}' for place in failed)}."


def _references(leaderboard: Leaderboard) -> Iterator[str]:
    victim, floor = leaderboard.reference("victim"), leaderboard.reference("floor")
    yield (
        f"Without a defense the {BACKDOOR.title} is {_number(victim[BACKDOOR.name])} % at an {ACCURACY.title} of "
        f"{_number(victim[ACCURACY.name])} %; the clean model has {_number(floor[BACKDOOR.name])} % and "
        f"{_number(floor[ACCURACY.name])} %."
    )


def _listed(standings: Sequence[Standing]) -> list[Standing]:
    finished = [standing for standing in standings if standing.complete]
    if len(finished) <= MOST_LISTED:
        return finished
    return [s for i, s in enumerate(finished) if i < 3 or s.line.defense == YARDSTICK]


def _does(standing: Standing) -> str:
    sentence = (
        f"{standing.line.defense} leaves a {BACKDOOR.title} of {_number(standing.means[BACKDOOR.name])} % at "
        f"{_points(standing.means[COST.name])}"
    )
    if standing.unconverged:
        sentence += f" ({counted(standing.unconverged, 'cell')} stopped before the training had converged)"
    return sentence + (" [told the trigger, or chosen on the test sets]." if standing.oracle else ".")


def _points(drop: float) -> str:
    if math.isnan(drop):
        return "an unknown cost"
    return f"{abs(drop):.1f} points of {ACCURACY.title} {'lost' if drop >= 0 else 'gained'}"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1f}"


def _interval(estimate: Estimate) -> str:
    return f"{_number(estimate.value)} [{_number(estimate.low)}, {_number(estimate.high)}]"


def _is(many: int) -> str:
    return "is" if many == 1 else "are"
