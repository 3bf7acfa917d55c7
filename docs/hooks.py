"""Adds the reference pages to the site; their text comes from the plugins themselves."""

from typing import Any

from mkdocs.structure.files import File, Files

from bench.cli import reference


def on_files(files: Files, config: Any) -> Files:
    """Add one generated page for each kind of plugin, for suites and for the command line."""
    for name, text in reference.pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files
