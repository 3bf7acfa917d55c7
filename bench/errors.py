"""The errors that reach a user, each a single line."""

import difflib
import re
from collections.abc import Iterable

# What a terminal obeys instead of showing: control characters but line ends and tabs, directions, halves of surrogates.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
LONGEST_NAME = 80  # characters of a wrong name that are shown


class RequestError(Exception):
    """The request is wrong or cannot be served here; the message is one line and says what would be valid.

    The command line prints it without a traceback and exits with status 2.
    """


class UndeclaredAccess(Exception):
    """A defense touched something that its ``needs`` do not declare."""


def plain(text: str) -> str:
    """Return a text with what a terminal would obey spelt out: texts of others must not move its cursor."""
    return _OBEYED.sub(lambda found: ascii(found[0])[1:-1], text)


def unknown(kind: str, name: str, valid: Iterable[str]) -> RequestError:
    """Return the error for a name that is not among ``valid``, with a near match first."""
    name, choices = name[:LONGEST_NAME], sorted(valid)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return RequestError(f"unknown {kind} {name!r}.{hint} Valid: {', '.join(choices) or 'none'}.")
