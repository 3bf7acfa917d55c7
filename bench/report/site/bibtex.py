"""BibTeX entries for DoorBench and for the works behind the methods of a site."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bench._version import __version__
from bench.plugins.works import Work, works

_SPECIAL = re.compile(r"([&%$#_{}])")


def bibliography(citations: Iterable[str]) -> str:
    """Return an entry for DoorBench, then one for each work that a method cites.

    Args:
        citations: what the methods say of where they were published.
    """
    own = (
        "@software{doorbench,\n"
        "  title = {{DoorBench}: comparing backdoor defenses for fine-tuned language models},\n"
        "  author = {{The DoorBench authors}},\n"
        f"  version = {{{__version__}}}\n}}"
    )
    entries: dict[str, str] = {}
    keys: set[str] = set()
    for work in (work for citation in citations for work in works(citation)):
        name = work.arxiv or work.cited
        if name not in entries:
            entries[name] = entry(work, _key(work, keys))
    return "\n\n".join([own, *entries.values()]) + "\n"


def entry(work: Work, key: str) -> str:
    """Return the entry of a work."""
    fields = {
        "title": "{" + _escape(work.title) + "}" if work.title else "",
        "author": _authors(work.authors),
        "year": work.year,
        "howpublished": _escape(work.venue) if work.venue != work.year else "",
        "eprint": work.arxiv,
        "archiveprefix": "arXiv" if work.arxiv else "",
        "url": work.paper or work.repository,
    }
    lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items() if value)
    return f"@misc{{{key},\n{lines}\n}}"


def _authors(words: str) -> str:
    """Return authors as BibTeX has them; "et al." are others."""
    names = re.split(r",\s+|\s+and\s+", words.removesuffix(" et al."))
    others = [] if names == [words] or not words.endswith(" et al.") else ["others"]
    return " and ".join([*("{" + _escape(name) + "}" for name in names if name), *others])


def _key(work: Work, keys: set[str]) -> str:
    """Return a key that no other entry has: author, year and the first long word of the title."""
    author = re.split(r"[\s,]", work.authors or "anonymous")[0]
    word = next(iter(re.findall(r"[A-Za-z]{4,}", work.title)), "")
    plain = re.sub(r"[^a-z0-9]", "", f"{author}{work.year}{word}".lower()) or "work"
    key = next(f"{plain}{end}" for end in ("", *"abcdefghijklmnopqrstuvwxyz") if f"{plain}{end}" not in keys)
    keys.add(key)
    return key


def _escape(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text.replace("\\", " "))
