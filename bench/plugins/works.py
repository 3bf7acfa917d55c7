"""The works that plugins cite: title, venue, year, paper and public code of each part of a citation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

FILE = Path(__file__).with_name("works.yaml")
_ARXIV = re.compile(r",?\s*arXiv[\s:]*(\d{4}\.\d{4,5})")
_YEAR = re.compile(r"\b(?:19|20)\d{2}\b")
_VENUE = re.compile(
    r",\s(?=[A-Z]{2,}|[A-Z][a-z]*[A-Z]|Findings|IEEE|Proceedings|First|Neurocomputing)|\s(?=(?:19|20)\d{2})"
)


@dataclass(frozen=True)
class Work:
    """A published work.

    Attributes:
        cited: the citation as the plugin has it.
        authors: as the citation has them, e.g. "Kurita et al.".
        venue: with the year, e.g. "ACL 2020"; the year alone where nothing else is known.
        year: four digits; empty where none is known.
        title: empty where it is not listed in ``works.yaml``.
        arxiv: its number; empty without one.
        code: repository on GitHub with the public code; empty where none is listed.
    """

    cited: str
    authors: str
    venue: str
    year: str
    title: str = ""
    arxiv: str = ""
    code: str = ""

    @property
    def paper(self) -> str:
        """The address of the paper; empty where it is not known."""
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else ""

    @property
    def repository(self) -> str:
        """The address of the code; empty where none is listed."""
        return f"https://github.com/{self.code}" if self.code else ""


def works(citation: str) -> list[Work]:
    """Return the works in a citation, whose parts are split by ``;``; a part without a year or number is none."""
    return [_work(part) for part in map(str.strip, citation.split(";")) if _ARXIV.search(part) or _YEAR.search(part)]


def _work(cited: str) -> Work:
    numbered = _ARXIV.search(cited)
    arxiv = numbered[1] if numbered else ""
    words = _ARXIV.sub("", cited).removeprefix("after ").strip()
    authors, *venue = _VENUE.split(re.sub(r"\s*\([^)]*\)", "", words), maxsplit=1)
    year = _YEAR.search(words)
    known = listed().get(arxiv) or listed().get(words) or {}
    return Work(
        cited=cited,
        authors=authors.strip(" ,"),
        venue=venue[0].strip() if venue else "",
        year=year[0] if year else f"20{arxiv[:2]}",
        title=known.get("title", ""),
        arxiv=arxiv,
        code=known.get("code", ""),
    )


@cache
def listed() -> Mapping[str, Mapping[str, str]]:
    """Return what is known of works beyond their citations, by arXiv number or citation."""
    entries: Mapping[str, Mapping[str, str]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return entries
