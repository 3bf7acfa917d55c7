"""BibTeX entries for DoorBench and for the methods of a site."""

from __future__ import annotations

import re
from collections.abc import Mapping

from bench._version import __version__

_ARXIV = re.compile(r"arXiv[\s:]*(\d{4}\.\d{4,5})")
_YEAR = re.compile(r"\b(?:19|20)\d{2}\b")
_SPECIAL = re.compile(r"([&%$#_{}])")


def bibliography(citations: Mapping[str, str]) -> str:
    """Return an entry for DoorBench, then one for each work that a method names.

    Args:
        citations: what each method says of itself, by its name; several works are split by ``;``.
    """
    own = (
        "@software{doorbench,\n"
        "  title = {{DoorBench}: comparing backdoor defenses for fine-tuned language models},\n"
        "  author = {{The DoorBench authors}},\n"
        f"  version = {{{__version__}}}\n}}"
    )
    entries: dict[str, str] = {}
    for name, citation in citations.items():
        for part in filter(None, (part.strip() for part in citation.split(";"))):
            entries.setdefault(part, _entry(name if citation.count(";") == 0 else f"{name}-{len(entries)}", part))
    return "\n\n".join([own, *entries.values()]) + "\n"


def _entry(key: str, citation: str) -> str:
    arxiv, year = _ARXIV.search(citation), _YEAR.search(citation)
    authors = re.split(r",\s(?=[A-Z]{2,}|Findings|IEEE|Proceedings)|\s(?=(?:19|20)\d{2})|, arXiv", citation)[0]
    fields = {
        "author": "{" + _escape(authors.removesuffix(" et al.")) + "}" + (" and others" if "et al." in authors else ""),
        "howpublished": _escape(citation),
        "year": year[0] if year else "",
        "eprint": arxiv[1] if arxiv else "",
        "archiveprefix": "arXiv" if arxiv else "",
    }
    body = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items() if value)
    return f"@misc{{{re.sub(r'[^a-z0-9-]+', '-', key.lower())},\n{body}\n}}"


def _escape(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text.replace("\\", " "))
