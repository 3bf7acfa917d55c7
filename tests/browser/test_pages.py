from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.report.showcase import HOSTILE

BOARD = "board/fine-tuned-model-received-64.html"
PAGES = (
    "index.html",
    "guide.html",
    BOARD,
    "board/fine-tuned-model-received-64-cells.html",
    "board/model-detection-64.html",
    "defense/fine-mixing.html",
    "defense/detector.html",
    "attack/badword.html",
    "task/reviews.html",
    "defense/index.html",
)
Open = Callable[..., Any]


def charted(page: Any) -> None:
    """Scroll to the charts and wait until they are drawn."""
    page.locator("#charts").scroll_into_view_if_needed()
    page.wait_for_selector("#charts[data-ready]", timeout=60_000)


def column(page: Any, number: int) -> list[str]:
    return page.locator(f"#leaderboard tbody tr[data-line] > :nth-child({number})").all_inner_texts()


def test_columns_sort_with_missing_numbers_last(showcase: Path, open_page: Open) -> None:
    from playwright.sync_api import expect

    page = open_page(showcase, BOARD)
    head = page.locator("#leaderboard thead th", has_text="Rank")
    for arrow, sign in (("ascending", 1), ("descending", -1)):
        head.click()
        expect(head).to_have_attribute("aria-sort", arrow)  # the table is drawn a moment after the click
        cells = column(page, 3)
        ranks = [float(match[0]) for text in cells if (match := re.search(r"\d+\.\d", text))]
        assert ranks == sorted(ranks, key=lambda rank: sign * rank)
        assert cells[-1] == "–" and len(ranks) < len(cells)


def test_a_filter_narrows_every_number_to_the_places_it_leaves(showcase: Path, open_page: Open) -> None:
    page = open_page(showcase, BOARD)
    before = dict(zip(column(page, 2), column(page, 4), strict=True))
    page.get_by_role("combobox", name="Task").select_option("reviews")
    page.get_by_text("defenses over 3 places").wait_for()
    after = dict(zip(column(page, 2), column(page, 4), strict=True))
    expected = open_page(showcase, "task/reviews.html").locator(
        "[aria-labelledby=part-fine-tuned-model-received-64] tbody"
    )
    rows = expected.locator("tr").all()
    cells = {row.locator("th").inner_text(): row.locator("td").nth(1).inner_text() for row in rows}
    assert {name: cells[name] for name in after} == after != before
    page.get_by_role("button", name="Reset").click()
    page.get_by_text("defenses over 9 places").wait_for()
    assert dict(zip(column(page, 2), column(page, 4), strict=True)) == before


def test_needs_and_seeds_are_filters(showcase: Path, open_page: Open) -> None:
    page = open_page(showcase, BOARD)
    page.get_by_role("checkbox", name="oracle").uncheck()
    page.get_by_text(re.compile(r"^\d+ of \d+ defenses over 9 places")).wait_for()
    assert not any("fine-pruning-f" in name for name in column(page, 2))
    page.get_by_role("checkbox", name="clean data").uncheck()
    page.get_by_text(re.compile("^1 of")).wait_for()
    assert column(page, 2) == ["e-pur"]


def test_a_line_expands_by_keyboard_and_leads_to_its_records(showcase: Path, open_page: Open) -> None:
    page = open_page(showcase, BOARD)
    button = page.get_by_role("button", name="Details of fine-mixing", exact=True)
    button.focus()
    page.keyboard.press("Enter")
    details = page.locator(".details")
    details.wait_for()
    assert button.get_attribute("aria-expanded") == "true"
    cell = details.locator("tr", has=page.get_by_role("rowheader", name="badword", exact=True)).locator("a").first
    left = float(cell.inner_text().partition(" ")[0])
    cell.click()
    page.wait_for_selector("table.record")
    assert page.locator("h2").inner_text() == "fine-mixing against badword on reviews"
    numbers = page.locator("table.record tr", has=page.get_by_role("rowheader", name="flip rate", exact=True)).locator(
        "td"
    )
    values = [float(text) for text in numbers.all_inner_texts()]
    assert len(values) == 3 and sum(values) / 3 == pytest.approx(left, abs=0.06)
    page.go_back()
    page.get_by_role("button", name="Details of fine-mixing", exact=True).wait_for()


def test_charts_are_drawn_and_follow_the_filter(showcase: Path, open_page: Open) -> None:
    page = open_page(showcase, BOARD)
    charted(page)
    shown = page.locator("#charts figure:not([hidden])")
    assert shown.count() == 7 and shown.locator("svg.marks, canvas.marks").count() == 7
    for figure in shown.all():
        picture, frame = figure.locator("svg.marks, canvas.marks").bounding_box(), figure.bounding_box()
        assert picture["x"] >= frame["x"] and picture["x"] + picture["width"] <= frame["x"] + frame["width"]
    heat = page.locator("#chart-heat")
    assert "badsent" in heat.inner_text()
    page.get_by_role("combobox", name="Attack").select_option("badword")
    page.wait_for_function("!document.querySelector('#chart-heat').textContent.includes('badsent')")


def test_the_table_of_all_cells_finds_and_filters(showcase: Path, open_page: Open) -> None:
    page = open_page(showcase, "board/fine-tuned-model-received-64-cells.html")
    page.get_by_role("searchbox").fill("e-pur+fine-mixing")
    page.get_by_role("combobox", name="Task").select_option("questions")
    page.get_by_text(re.compile("^Showing 1 to 5 of 5")).wait_for()
    assert page.locator("#cells tbody tr").count() == 5
    page.locator("#cells tbody a[href*='record.html']").first.click()
    page.wait_for_selector("table.record")


def test_nothing_that_a_plugin_says_is_run(showcase: Path, open_page: Open) -> None:
    for path in (BOARD, "index.html", "board/fine-tuned-model-received-64-cells.html"):
        page = open_page(showcase, path)
        if path == BOARD:
            page.get_by_role("button", name=f"Details of {HOSTILE}").click()
            page.locator(".details").wait_for()
            charted(page)
        assert page.get_by_text(HOSTILE).count() > 0
        assert page.evaluate("window.hacked") is None


def test_every_link_leads_somewhere(showcase: Path, open_page: Open) -> None:
    page = open_page(showcase, "index.html")
    page.get_by_role("searchbox").fill("fine-mixing-sel")
    page.get_by_role("link", name="fine-mixing-sel", exact=True).last.click()
    assert page.locator("h1").inner_text() == "fine-mixing-sel"
    page.get_by_role("link", name="Attacks").click()
    page.get_by_role("link", name="badword").click()
    assert page.locator("h1").inner_text() == "badword"


def test_the_theme_can_be_chosen_and_is_kept(showcase: Path, open_page: Open) -> None:
    page = open_page(showcase, "index.html")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.get_by_role("button", name="Theme").click(click_count=1)
    page.get_by_role("button", name="Theme: light").click()
    page.get_by_role("button", name="Theme: dark").wait_for()
    assert page.evaluate(background) != light
    page.goto((showcase / BOARD).as_uri())
    assert page.evaluate(background) != light


@pytest.mark.parametrize("path", PAGES)
def test_there_are_no_serious_findings_of_axe(showcase: Path, open_page: Open, path: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = open_page(showcase, path)
    if path == BOARD:
        page.locator("button.expand").first.click()
        page.locator(".details").wait_for()
        charted(page)
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        violations = Axe().run(page, options={"preload": False}).response["violations"]
        serious = [one for one in violations if one["impact"] in ("serious", "critical")]
        findings = [(one["id"], [node["html"][:200] for node in one["nodes"][:3]]) for one in serious]
        assert findings == [], theme


@pytest.mark.parametrize("path", PAGES)
def test_only_tables_scroll_sideways(showcase: Path, open_page: Open, path: str) -> None:
    page = open_page(showcase, path, width=1600)
    if path == BOARD:
        charted(page)
    for width in (1600, 820, 390):
        page.set_viewport_size({"width": width, "height": 900})
        # charts are drawn anew a moment after the window has another width
        page.wait_for_function("width => document.documentElement.scrollWidth <= width", arg=width)


def test_pages_print_without_controls(showcase: Path, open_page: Open) -> None:
    page = open_page(showcase, BOARD)
    page.emulate_media(media="print")
    assert not page.locator("#filters").is_visible() and page.locator("#leaderboard").is_visible()


def test_a_board_of_fifty_defenses_loads_within_a_second(large: Path, open_page: Open) -> None:
    """Processor time always; on the wall where no other program holds the processors."""
    page = open_page(large, "index.html")
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    loads = []
    for _ in range(3):
        before = spent(session)
        page.goto((large / BOARD).as_uri())
        assert len(column(page, 2)) == 50
        assert spent(session) - before < 1
        loads.append(page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
    if os.getloadavg()[0] < (os.cpu_count() or 1):
        assert min(loads) < 1000, loads


def spent(session: Any) -> float:
    """Return the processor seconds of the page's process so far."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return float(next(one["value"] for one in metrics if one["name"] == "ProcessTime"))


def test_a_large_board_stays_usable(large: Path, open_page: Open) -> None:
    page = open_page(large, BOARD)
    page.locator("button.expand").first.click()
    page.locator(".details table").wait_for()
    assert page.locator(".details tbody tr").count() == 21
    page.get_by_role("combobox", name="Task").select_option("task-3")
    page.get_by_text("50 of 50 defenses over 20 places").wait_for()
    charted(page)
