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
    "model/embedded.html",
    "defense/index.html",
    "zoo.html",
    "submit.html",
    "404.html",
)
DETECTORS = "board/model-detection-64.html"
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


def table_of(page: Any, selector: str, skip: int) -> dict[str, list[str]]:
    """Return the cells of each row of a table by its name; of ranks without sign and interval."""
    rows = {}
    for row in page.locator(f"{selector} tr").all():
        name, rank, *cells = [cell.strip() for cell in row.locator("> *").all_inner_texts()[skip:]]
        number = re.search(r"(\d+|–)(?= \[|$)", rank)
        rows[name] = [number[0] if number else "", *cells]
    return rows


def test_a_filter_narrows_everything_to_the_places_it_leaves(showcase: Path, open_page: Open) -> None:
    """What the scripts compute, against the page of the task, which Python computed: rows, floors and tiles."""
    page = open_page(showcase, BOARD)
    tiles = page.locator(".tiles dd").all_inner_texts()
    before = {part: table_of(page, f"#leaderboard {part}", 1) for part in ("tbody", "tfoot")}
    page.get_by_role("combobox", name="Task").select_option("reviews")
    page.get_by_text("defenses over 3 places").wait_for()
    part = "[aria-labelledby=part-fine-tuned-model-received-64]"
    expected = open_page(showcase, "task/reviews.html")
    for where in ("tbody", "tfoot"):
        after, stated = table_of(page, f"#leaderboard {where}", 1), table_of(expected, f"{part} {where}", 0)
        assert {name: stated[name] for name in after} == after != before[where]
    heads = expected.locator(f"{part} thead th").all_inner_texts()
    floors = table_of(expected, f"{part} tfoot", 0)
    flip = next(i for i, head in enumerate(heads) if head.replace("\n", " ").startswith("Flip rate")) - 1
    shown = page.locator(".tiles dd").all_inner_texts()
    assert shown[:2] == [f"{floors['no defense'][flip]} %", f"{floors['clean model'][flip]} %"] and shown != tiles
    assert "the 3 places that the filters leave" in page.locator("#leaderboard caption").inner_text()
    page.get_by_role("button", name="Reset").click()
    page.get_by_text("defenses over 9 places").wait_for()
    assert {where: table_of(page, f"#leaderboard {where}", 1) for where in before} == before
    assert page.locator(".tiles dd").all_inner_texts() == tiles


def test_every_defense_stays_when_one_attack_is_chosen(showcase: Path, open_page: Open) -> None:
    page = open_page(showcase, BOARD)
    page.get_by_role("combobox", name="Attack").select_option("badword")
    page.get_by_text("defenses over 3 places").wait_for()
    ranks = [rank for rank in column(page, 3) if rank != "–"]
    assert len(ranks) >= 7 and ranks[0] == "1" and page.locator("#leaderboard tfoot tr").count() == 2


def test_a_view_can_be_shared_by_its_address(showcase: Path, open_page: Open) -> None:
    page = open_page(showcase, BOARD)
    page.get_by_role("combobox", name="Task").select_option("reviews")
    page.get_by_role("checkbox", name="oracle").uncheck()
    for name in ("fine-mixing", "fine-tuning"):
        page.get_by_role("checkbox", name=f"Choose {name}", exact=True).check()
    page.get_by_role("checkbox", name="chosen rows only").check()
    page.get_by_text("2 of 13 defenses over 3 places").wait_for()
    names = column(page, 2)
    assert sorted(names) == ["fine-mixing", "fine-tuning"]
    again = open_page(showcase, f"{BOARD}#{page.url.partition('#')[2]}")
    again.get_by_text("2 of 13 defenses over 3 places").wait_for()
    assert column(again, 2) == names and column(again, 4) == column(page, 4)
    assert not again.get_by_role("checkbox", name="oracle").is_checked()
    page.get_by_role("button", name="Reset").click()
    page.get_by_text("13 of 13 defenses over 9 places").wait_for()
    assert "=" not in page.url.partition("#")[2]


def test_one_budget_is_shown_at_a_time(showcase: Path, open_page: Open) -> None:
    page = open_page(showcase, "attack/badword.html")
    shown = page.locator(".budgeted").first.locator(".budget:not([hidden])")
    assert shown.count() == 1 and shown.get_attribute("data-labels") == "64"
    labels = set(shown.locator("tbody tr td:nth-child(11)").all_inner_texts())
    assert labels <= {"64", "0"}
    page.get_by_role("combobox", name="Labels that a defender may see").select_option("8")
    assert shown.get_attribute("data-labels") == "8" and page.url.endswith("#labels=8")
    board = open_page(showcase, BOARD)
    board.get_by_role("navigation", name="Labels of a defender").get_by_role("link", name="8", exact=True).click()
    assert board.locator("h1").inner_text() == "Fine-tuned model received, 8 labels"


def test_detectors_follow_the_attack_and_the_choice(showcase: Path, open_page: Open) -> None:
    page = open_page(showcase, DETECTORS)
    column_of = "#detectors tbody tr > :nth-child(3)"
    before = page.locator(column_of).all_inner_texts()
    page.get_by_role("combobox", name="Attack").select_option("badsent")
    page.get_by_text("of the chosen attack").wait_for()
    assert page.locator(column_of).all_inner_texts() != before
    table = (showcase / "download" / "model-detection-64-leaderboard.csv").read_text().splitlines()
    heads, first = table[0].split(","), table[1].split(",")
    stated = float(first[heads.index("badsent")])
    assert page.locator(column_of).first.inner_text().startswith(f"{stated:.1f} [")
    charted(page)
    assert page.locator("#charts figure:not([hidden])").count() == 2
    page.get_by_role("checkbox", name="clean data").uncheck()
    page.get_by_text("1 of 2 detectors").wait_for()


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
    assert page.evaluate("document.documentElement.scrollHeight") < 2500  # what is long is folded
    numbers = page.locator("table.record tr", has=page.get_by_role("rowheader", name="flip rate", exact=True)).locator(
        "td"
    )
    values = [float(text) for text in numbers.all_inner_texts()]
    assert len(values) == 3 and sum(values) / 3 == pytest.approx(left, abs=0.06)
    page.go_back()
    page.get_by_role("button", name="Details of fine-mixing", exact=True).wait_for()


def test_a_record_of_a_model_that_writes_shows_what_it_said(showcase: Path, open_page: Open) -> None:
    from tests.report.showcase import purification

    row = next(
        r for r in purification() if (r.task, r.attack, r.defense, r.seed) == ("reviews", "badword", "fine-mixing", 0)
    )
    page = open_page(showcase, f"record.html#{row.victim_key[:2]}{row.cell_key[:12]}")
    said = page.locator(".responses tbody tr")
    said.first.wait_for()
    names = page.locator(".responses tbody th").all_inner_texts()
    assert names == ["clean model", "before: no defense", "after: fine-mixing"]
    assert HOSTILE in said.nth(1).inner_text() and page.evaluate("window.hacked") is None


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
        options = {"preload": False, "resultTypes": ["violations"]}  # of what passes, one example each is enough
        violations = Axe().run(page, options=options).response["violations"]
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


@pytest.mark.parametrize("path", [BOARD, DETECTORS])
def test_charts_are_printed_though_nobody_scrolled_to_them(showcase: Path, open_page: Open, path: str) -> None:
    """Before they are drawn, paper has no heading that promises them; what was drawn in the dark is dark on paper."""
    page = open_page(showcase, path, theme="dark")
    heading = page.get_by_role("heading", name="Charts", exact=True)
    assert heading.is_visible()
    page.wait_for_selector("#charts[data-ready]", state="attached", timeout=60_000)
    assert page.evaluate("scrollY") == 0
    page.emulate_media(media="print", color_scheme="dark")
    assert heading.is_visible()
    for ready in ("removeAttribute('data-ready')", "setAttribute('data-ready', '1')"):
        page.evaluate(f"document.getElementById('charts').{ready}")
        assert heading.count() == ("set" in ready)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("getComputedStyle(document.querySelector('tbody td.num')).color") == "rgb(0, 0, 0)"
    for text in page.locator("#charts svg.marks [class*=role-axis-label] text").all():
        assert text.evaluate("text => getComputedStyle(text).fill") == "rgb(0, 0, 0)"
    for picture in page.locator("#charts :is(svg.marks, canvas.marks)").all():
        inner, outer = picture.bounding_box(), picture.locator("xpath=ancestor::figure").bounding_box()
        assert inner["x"] + inner["width"] <= outer["x"] + outer["width"]
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.classList.contains('dark')")


@pytest.mark.parametrize(
    "path", [BOARD, DETECTORS, BOARD.replace(".html", "-cells.html"), "defense/fine-mixing.html", "zoo.html"]
)
def test_every_column_is_on_the_sheet(showcase: Path, open_page: Open, path: str) -> None:
    """A4 landscape less its margins is 277 mm wide, 1,047 pixels of CSS."""
    page = open_page(showcase, path, width=1047)
    page.wait_for_load_state()
    page.emulate_media(media="print")
    for table in page.locator("table").all():
        box = table.bounding_box()
        assert box is None or box["x"] + box["width"] <= 1047, path


def test_the_first_screen_of_a_phone_shows_a_result(showcase: Path, open_page: Open) -> None:
    for path in ("index.html", BOARD, DETECTORS):
        page = open_page(showcase, path, width=390)
        page.set_viewport_size({"width": 390, "height": 844})
        box = page.locator(".headline").first.bounding_box()
        assert box["y"] + box["height"] <= 844 and "best of" in page.locator(".headline").first.inner_text()


@pytest.mark.parametrize(
    ("path", "names"),
    [(BOARD, "#leaderboard th.name"), (BOARD.replace(".html", "-cells.html"), "#cells td"), ("zoo.html", "tbody td")],
)
def test_names_of_methods_break_only_between_their_parts(
    showcase: Path, open_page: Open, path: str, names: str
) -> None:
    page = open_page(showcase, path, width=390)
    parts = page.locator(f"{names} .part")
    parts.first.wait_for()
    lines = parts.evaluate_all("all => all.map(part => part.getClientRects().length)")
    assert len(lines) > 10 and set(lines) == {1}


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
