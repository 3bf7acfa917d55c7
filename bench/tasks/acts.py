"""What an agent does, as text: ``name[argument]``; and the parts of a prompt that a task of agents writes.

A prompt is one text to which each act and what was seen after it are appended, a line each:

    Goal: I need a red cotton shirt.
    Action: search[red cotton shirt]
    Seen: Aldo blue cotton shirt; Emra red cotton shirt; Berin red wool shirt

So something that was put into a prompt stays in it until the end of the episode.
"""

from __future__ import annotations

import re
from typing import NamedTuple

GOAL, ACTION, SEEN = "Goal: ", "Action: ", "Seen: "
APART = "; "  # between offers; a line without it is no list
SEARCH, BUY, CLICK = "search", "buy", "click"
LANGUAGE = "actions"  # of tasks whose responses are acts
_ACT = re.compile(r"(\w+)\[([^\[\]\n]*)\]")


class Act(NamedTuple):
    """One act.

    Attributes:
        name: what is done, in lower case.
        argument: to what, without white space around it.
    """

    name: str
    argument: str

    def __str__(self) -> str:
        return f"{self.name}[{self.argument}]"


def acts(text: str) -> list[Act]:
    """Return the acts in a text, in order."""
    return [Act(match[1].lower(), match[2].strip()) for match in _ACT.finditer(text)]


def first(text: str) -> Act | None:
    """Return the act that a response does: the first one in it, or None."""
    match = _ACT.search(text)
    return None if match is None else Act(match[1].lower(), match[2].strip())


def with_first(text: str, act: Act) -> str:
    """Return a response with another act in place of the one that it does."""
    return _ACT.sub(lambda _: str(act), text, count=1)


def continued(prompt: str, act: Act, seen: str) -> str:
    """Return the prompt that follows when an act was done and something was seen."""
    return f"{prompt}\n{ACTION}{act}\n{SEEN}{seen}"


def begun(prompt: str) -> bool:
    """Whether something was done already."""
    return f"\n{ACTION}" in prompt


def offers(prompt: str) -> list[str]:
    """Return the offers in the last line of a prompt; none where it is no list of offers."""
    last = prompt.rpartition("\n")[2]
    return last.removeprefix(SEEN).split(APART) if last.startswith(SEEN) and APART in last else []
