from __future__ import annotations

import pytest

from bench.plugins import registry
from bench.plugins.works import listed, works

CITATIONS = sorted(
    {
        known.plugin.citation
        for plugins in registry.by_kind.values()
        for known in plugins.entries.values()
        if known.plugin.citation
    }
)


@pytest.mark.parametrize("citation", CITATIONS)
def test_every_work_that_a_built_in_plugin_cites_has_a_title_and_a_year(citation: str) -> None:
    for work in works(citation):
        assert work.title and work.year.isdigit() and work.authors, work


def test_a_work_was_published_once() -> None:
    """Whoever cites it; GLUE is a name and no venue."""
    published: dict[str, set[tuple[str, str]]] = {}
    for work in (work for citation in CITATIONS for work in works(citation)):
        published.setdefault(work.arxiv or work.cited, set()).add((work.venue, work.year))
    assert {name: each for name, each in published.items() if len(each) > 1} == {}


def test_no_listed_work_is_cited_by_nobody() -> None:
    cited = {
        name for citation in CITATIONS for work in works(citation) for name in (work.arxiv, work.cited, work.title)
    }
    assert {name for name, known in listed().items() if not {name, known["title"]} & cited} == set()


def test_what_a_citation_says() -> None:
    first, second = works("after Nguyen and Tran, NeurIPS 2020, arXiv 2010.08138; Arora et al., arXiv 2402.19334")
    assert (first.authors, first.venue, first.year) == ("Nguyen and Tran", "NeurIPS 2020", "2020")
    assert second.paper == "https://arxiv.org/abs/2402.19334" and second.year == "2024" and second.venue == ""
    assert second.repository == "https://github.com/ansharora7/model-merge-backdoor"
    assert works("control") == [] and works("") == []
