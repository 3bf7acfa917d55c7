"""What stands beside the metrics on a leaderboard: titles and definitions, for tables, pages and the reading guide."""

from __future__ import annotations

from bench.experiment.metrics import ACCURACY, BACKDOOR, RANKING, Described
from bench.report.ranking.matched import LIMITS
from bench.report.ranking.results import MARGIN

YARDSTICK = "fine-tuning"  # whose seconds are 1
_LISTED = ", ".join(f"{limit:g}" for limit in LIMITS[:-1]) + f" or {LIMITS[-1]:g}"


RANK = Described(
    title="rank",
    definition=f"by mean {RANKING.title}, over the places where an attack implanted and defenses are compared; in "
    "brackets the 95 % interval over tasks, attacks, trainings and test examples, widened by the ranks that the "
    f"defense would have by its {BACKDOOR.title} at a limit of {_LISTED} points of {ACCURACY.title} lost",
    details=f"marked as good as the best: shown to be within {MARGIN:g} points of its {RANKING.title}",
)
MATCHED = Described(
    title=f"{BACKDOOR.title} at matched {ACCURACY.title}",
    definition=f"what is left of the {BACKDOOR.title} where at most {_LISTED} points of {ACCURACY.title} may be lost",
    details="the victim's where the defense costs more",
)
LABELS = Described(title="labels", definition="clean labelled examples that the defense sees, to tune and to choose on")
TIME = Described(title="time", definition=f"median of seconds relative to {YARDSTICK}", details="for the same victim")
PLACES = Described(title="places", definition="where it is finished, of those that count")
NEEDS = Described(title="needs", definition="what the defense touches, beside the model that it is to defend")
SEEDS = Described(title="seeds", definition="the least number of seeds behind a place")
