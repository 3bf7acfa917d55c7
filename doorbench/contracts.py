"""Everything that a plugin imports to say what it is: one line, ``from doorbench.contracts import Attack, Trigger``."""

from bench.contracts import *  # noqa: F403
from bench.errors import RequestError as RequestError
