"""Where to compare defenses, when not every defense was run everywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Mapping
from typing import TypeVar

P = TypeVar("P", bound=Hashable)


def comparable_places(lines: Mapping[P, Collection[Hashable]]) -> list[P]:
    """Return the places to compare at: those that give the most numbers, places times lines finished at all of them.

    First, places with less than half as many lines as the fullest are left out: being first among few says little.
    Then the place that shares the fewest lines with the others is left out, again and again, and of the sets on this
    way the best is taken.

    Args:
        lines: the lines that are finished at each place, in the order to return.
    """
    most = max(map(len, lines.values()), default=0)
    kept = [place for place, present in lines.items() if 2 * len(present) >= most]
    best, numbers = list(kept), 0
    while len(kept) * most > numbers:  # as many as are possible with them
        counts = Counter(line for place in kept for line in lines[place])
        total = len(kept) * sum(count == len(kept) for count in counts.values())
        if total > numbers:
            best, numbers = list(kept), total
        kept.remove(min(kept, key=lambda place: sum(counts[line] for line in lines[place])))
    return best
