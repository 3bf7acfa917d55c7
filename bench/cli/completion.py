"""What the shell completes, once ``doorbench --install-completion`` was run. Imports wait until a name is asked for."""

from __future__ import annotations

from collections.abc import Iterable


def _starting(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def suites(incomplete: str) -> list[str]:
    """Complete the name of a suite."""
    from bench.session import LAST
    from bench.suites import suite

    return _starting((*suite.built_in(), LAST), incomplete)


def kinds(incomplete: str) -> list[str]:
    """Complete what can be listed."""
    from bench.cli import listing

    return _starting(listing.KINDS, incomplete)


def defense_kinds(incomplete: str) -> list[str]:
    """Complete a kind of defense."""
    from bench.cli import listing

    return _starting(listing.DEFENSE_KINDS, incomplete)


def needs(incomplete: str) -> list[str]:
    """Complete a need of a defense."""
    from bench.cli import listing
    from bench.contracts import Needs

    return _starting((*map(str, Needs), listing.NOTHING), incomplete)


def names(incomplete: str) -> list[str]:
    """Complete whatever can be described."""
    from bench.cli import listing

    return _starting((str(row["name"]) for kind in listing.KINDS for row in listing.listing(kind)), incomplete)
