"""A real browser on sites of invented records. Nothing is installed here: .ci/run does that."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.report.site import Source, build
from tests.report.showcase import sources
from tests.report.synthetic import crowd

ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
LOCAL = ("file:", "data:", "blob:", "about:")


def _missing(reason: str) -> None:
    """Skip loudly; where the browser has been installed for the tests, its absence is a failure."""
    message = f"BROWSER TESTS NOT RUN: {reason} (Debian: apt-get install chromium; pip install playwright)"
    if os.environ.get("DOORBENCH_BROWSER") == "required":
        pytest.fail(message)
    warnings.warn(message, stacklevel=1)
    pytest.skip(message)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("playwright is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        _missing("there is no chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield running
        running.close()


@pytest.fixture(scope="session")
def showcase(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(sources(), folder=tmp_path_factory.mktemp("showcase") / "site").parent


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = crowd(defenses=50, attacks=20, tasks=5, seeds=1, examples=60)
    return build([Source("crowd", rows)], folder=tmp_path_factory.mktemp("crowd") / "site").parent


def _lost(request: Any) -> list[str]:
    """Say which file could not be had; what the reader left before it came is no fault."""
    return [] if request.failure == "net::ERR_ABORTED" else [f"failed: {request.failure} {request.url}"]


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a page without network; afterwards, no request left the disk and the console stayed empty."""
    complaints: list[str] = []
    contexts = []

    def opened(site: Path, path: str, *, width: int = 1280, theme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("requestfailed", lambda request: complaints.extend(_lost(request)))
        page.on(
            "request",
            lambda request: None if request.url.startswith(LOCAL) else complaints.append(f"network: {request.url}"),
        )
        page.goto((site / path.partition("#")[0]).as_uri() + "".join(path.partition("#")[1:]))
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
