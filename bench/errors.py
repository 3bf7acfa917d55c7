"""The errors that reach a user, each a single line."""

import difflib
import re
from collections.abc import Iterable

# What a terminal obeys instead of showing: control characters but line ends and tabs, directions, halves of surrogates.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
LONGEST_NAME = 80  # characters of a wrong name that are shown
MOST_SHOWN, NEAREST = 12, 5  # valid names that are shown: all of so many, or of more the nearest


class RequestError(Exception):
    """The request is wrong or cannot be served here; the message is one line and says what would be valid.

    The command line prints it without a traceback and exits with status 2.
    """


class UndeclaredAccess(Exception):
    """A defense touched something that its ``needs`` do not declare."""


def plain(text: str) -> str:
    """Return a text with what a terminal would obey spelt out: texts of others must not move its cursor."""
    return _OBEYED.sub(lambda match: ascii(match[0])[1:-1], text)


def unknown(kind: str, name: str, valid: Iterable[str], *, listing: str = "") -> RequestError:
    """Return the error for a name that is not among ``valid``, with a near match first.

    Args:
        kind: what it should name.
        name: the wrong one.
        valid: all of them are shown if they are few, else the nearest.
        listing: the command that lists all.
    """
    name, choices = name[:LONGEST_NAME], sorted(valid)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    if len(choices) <= MOST_SHOWN:
        return RequestError(f"unknown {kind} {name!r}.{hint} Valid: {', '.join(choices) or 'none'}.")
    nearest = ", ".join(difflib.get_close_matches(name, choices, n=NEAREST, cutoff=0.0))
    every = f"; all {len(choices)}: `{listing}`" if listing else f", and {len(choices) - NEAREST} more"
    return RequestError(f"unknown {kind} {name!r}.{hint} Valid, the nearest first: {nearest}{every}.")
