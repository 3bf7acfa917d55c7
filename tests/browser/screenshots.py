"""Pictures of a site at three widths, light and dark, and as A4.

``python -m tests.browser.screenshots SITE OUT [PAGE...]``
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser.conftest import ARGUMENTS

WIDTHS = (390, 820, 1440)


def take(site: Path, out: Path, pages: list[str]) -> None:
    """Take a full-page picture of each page."""
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=list(ARGUMENTS))
        for width in WIDTHS:
            for theme in ("light", "dark"):
                page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
                for name in pages:
                    path, sign, fragment = name.partition("#")
                    page.goto((site / path).resolve().as_uri() + sign + fragment)
                    if page.locator("#charts").count():
                        page.locator("#charts").scroll_into_view_if_needed()
                        page.wait_for_selector("#charts[data-ready]", timeout=60_000)
                        page.evaluate("scrollTo(0, 0)")
                    plain = Path(name.partition("#")[0]).with_suffix("").as_posix().replace("/", "-")
                    page.screenshot(path=out / f"{plain}-{width}-{theme}.png", full_page=True)
                    if (width, theme) == (WIDTHS[-1], "light"):
                        page.pdf(path=out / f"{plain}.pdf", prefer_css_page_size=True)
                page.close()
        browser.close()


if __name__ == "__main__":
    take(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] or ["index.html"])
