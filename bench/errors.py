"""The errors that reach a user, each a single line."""

import difflib
from collections.abc import Iterable

LONGEST_NAME = 80  # characters of a wrong name that are shown


class RequestError(Exception):
    """The request is wrong or cannot be served here; the message is one line and says what would be valid.

    The command line prints it without a traceback and exits with status 2.
    """


class UndeclaredAccess(Exception):
    """A defense touched something that its ``needs`` do not declare."""


def unknown(kind: str, name: str, valid: Iterable[str]) -> RequestError:
    """Return the error for a name that is not among ``valid``, with a near match first."""
    name, choices = name[:LONGEST_NAME], sorted(valid)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return RequestError(f"unknown {kind} {name!r}.{hint} Valid: {', '.join(choices) or 'none'}.")
