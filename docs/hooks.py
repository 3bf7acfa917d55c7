"""Adds what is written from the code to the site: reference pages, tables of plugins, and CONTRIBUTING.md."""

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from bench.cli import api_reference, reference
from bench.contracts import Access

CONTRIBUTING = Path(__file__).parent.parent / "CONTRIBUTING.md"


def on_files(files: Files, config: Any) -> Files:
    """Add one generated page for each kind of plugin, for suites and for the command line, and the contributor's."""
    for name, text in reference.pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    contributing = CONTRIBUTING.read_text(encoding="utf-8").replace("](docs/", "](")
    files.append(File.generated(config, "contributing.md", content=contributing))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the table of a kind of plugin where a page has the comment ``<!-- table of attacks -->``."""
    for kind in reference.KINDS:
        marker = f"<!-- table of {kind} -->"
        if marker in markdown:
            markdown = markdown.replace(marker, reference.overview(kind, page=f"reference/{kind}.md"))
    members = "<!-- members of Access -->"
    return markdown.replace(members, api_reference.table_of_members(Access)) if members in markdown else markdown
