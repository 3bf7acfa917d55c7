"""What stands beside the metrics on a leaderboard: titles and definitions, for tables, pages and the reading guide."""

from __future__ import annotations

from bench.experiment.metrics import ACCURACY, RANKING, Described
from bench.report.ranking.results import MAX_DROP

YARDSTICK = "fine-tuning"  # whose seconds are 1


RANK = Described(
    title="mean rank",
    definition=f"rank 1 is the lowest {RANKING.title}; defenses that lose more than {MAX_DROP:g} points of "
    f"{ACCURACY.title} share the last rank; in brackets the 95 % interval over tasks, attacks, seeds and test examples",
    details="the mean is over the places where an attack implanted and defenses are compared",
)
CLEAN = Described(
    title="clean examples",
    definition="to tune on + to choose on",
    details="clean labelled examples that the defense reads",
)
TIME = Described(title="time", definition=f"median of seconds relative to {YARDSTICK}", details="for the same victim")
PLACES = Described(title="places", definition="where it is finished, of those that count")
NEEDS = Described(title="needs", definition="what the defense touches, beside the model that it is to defend")
SEEDS = Described(title="seeds", definition="the least number of seeds behind a place")
