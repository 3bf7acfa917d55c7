from __future__ import annotations

import gzip
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import RequestError
from bench.report.rows import records
from bench.report.rows.row import Row
from bench.report.site import MARKER, Source, build
from bench.report.site.assets import classic_script
from bench.report.site.bibtex import bibliography
from bench.report.site.data import script
from bench.report.site.merge import merged, strictest
from bench.report.site.names import slug
from bench.report.site.render import number, page
from bench.results import publish
from bench.suites.suite import Gate
from tests.report.showcase import HOSTILE, sources
from tests.report.synthetic import key, make_rows

ROOT = Path(__file__).parents[2]
HISTORIC = Path(__file__).parents[1] / "historic_records" / "v1"


class Page(HTMLParser):
    """Collects links, scripts, identifiers and headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.scripts: list[str | None] = []
        self.names: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.links += [value for name, value in attrs if name in ("href", "src") and value]
        self.scripts += [attributes.get("src")] if tag == "script" else []
        self.names += [attributes["id"]] if attributes.get("id") else []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(sources(), folder=tmp_path_factory.mktemp("site") / "out").parent


def test_every_link_is_a_file_of_the_site(site: Path) -> None:
    pages = {path: Page(path.read_text()) for path in site.rglob("*.html")}
    assert len(pages) > 25
    for path, parsed in pages.items():
        for link in parsed.links:
            if link.startswith("data:") or re.match(r"https://(arxiv\.org/abs|github\.com)/", link):
                continue  # papers and code are only linked to; a page loads nothing from elsewhere
            assert not re.match(r"[a-z]+:|//", link), (path, link)
            target, _, fragment = link.partition("#")
            linked = (path.parent / unquote(target)).resolve() if target else path
            assert linked.is_file(), (path, link)
            if fragment and linked.name != "record.html":
                assert fragment in pages[linked].names, (path, link)


def test_every_record_link_has_its_record(site: Path) -> None:
    held = {}
    for path in (site / "data" / "records").glob("*.js"):
        held.update(json.loads(path.read_text().partition(",")[2].rstrip(");\n"))["records"])
    tokens = {
        token
        for path in site.rglob("*.html")
        for link in Page(path.read_text()).links
        if "record.html#" in link
        for token in link.partition("#")[2].split("_")
    }
    assert tokens and tokens <= set(held)


def test_hostile_text_is_text(site: Path) -> None:
    for path in site.rglob("*.html"):
        assert HOSTILE not in path.read_text()
        assert all(source and "assets/" in source for source in Page(path.read_text()).scripts)
    for path in (site / "data").rglob("*.js"):
        assert "<" not in path.read_text()


def test_a_site_is_replaced_but_nothing_else_is(site: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    rows = make_rows(tasks=("reviews",), attacks=("badword",), defenses=("none", "mixing"), seeds=(0,))
    build([Source("one", rows)], folder=folder)
    (folder / "stray").write_text("")
    build([Source("one", rows)], folder=folder)
    assert not (folder / "stray").exists() and (folder / MARKER).is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (folder / MARKER).unlink()
    with pytest.raises(RequestError, match="holds other files"):
        build([Source("one", rows)], folder=folder)


def test_a_site_without_records_still_opens(tmp_path: Path) -> None:
    first = build([Source("none", [])], folder=tmp_path / "out")
    assert "There are no records yet" in first.read_text()


def test_the_downloads_can_be_read(site: Path) -> None:
    import pandas as pd

    leaders = pd.read_csv(site / "download" / "fine-tuned-model-received-64-leaderboard.csv")
    assert {"defense", "rank", "DER", "labels", "needs"} <= set(leaders.columns) and HOSTILE in "".join(
        leaders["defense"]
    )
    cells = pd.read_csv(site / "download" / "fine-tuned-model-received-64-cells.csv")
    assert {"acc", "asr", "cell_key"} <= set(cells.columns) and len(cells) > 400
    assert "@software{doorbench" in (site / "download" / "doorbench.bib").read_text()


@given(st.text(max_size=80))
def test_slugs_are_safe_and_stable(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug(name)) and len(slug(name)) < 80
    assert slug(name) == slug(name)


def test_slugs_are_never_shared() -> None:
    names = ["a+b", "a b", "a-b", "A-b", "../a", "con", "<script>", "a" * 200, "a" * 201, "", "é"]
    assert len({slug(name) for name in names}) == len(names)
    assert slug("fine-mixing") == "fine-mixing" and slug("index") != "index"


@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.floats() | st.text() | st.lists(st.integers())))
def test_data_files_hold_what_they_are_given(content: dict[str, object]) -> None:
    text = script("name", content)
    assert text.isascii() and "<" not in text and text.startswith('doorbench.receive("name",')
    received = json.loads(text.removeprefix('doorbench.receive("name",').removesuffix(");\n"))
    assert received.keys() == content.keys()
    for name, value in content.items():
        if not isinstance(value, float):
            assert received[name] == value


def test_templates_escape_and_miss_nothing() -> None:
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError):
        page("list", title="x")
    assert (number(float("nan")), number(-1.25), number(-0.01)) == ("–", "−1.2", "0.0")


def renamed(rows: list[Row], mark: str) -> list[Row]:
    from dataclasses import replace

    return [replace(row, cell_key=key(mark, row.cell_key), victim_key=key(mark, row.victim_key)) for row in rows]


def test_suites_share_cells_and_keep_apart_what_only_looks_alike() -> None:
    rows = make_rows(tasks=("reviews", "questions"), attacks=("badword",), seeds=(0,))
    assert merged([Source("a", rows), Source("b", rows)]) == rows
    other = renamed([row for row in rows if row.task == "reviews"], "longer training")
    both = merged([Source("a", rows), Source("b", other)])
    assert len(both) == len(rows) + len(other)
    assert {row.task for row in both} == {"reviews", "questions", "reviews [b]"}


def board_cells(site: Path) -> dict[tuple[str, str], set[tuple[object, ...]]]:
    """Return the numbers of every cell on every board, by board and records, whatever its task is called."""
    cells: dict[tuple[str, str], set[tuple[object, ...]]] = {}
    for path in (site / "data").glob("board-*.js"):
        board = json.loads(path.read_text().partition(",")[2].rstrip(");\n"))
        for values in board.get("cells", ()):  # a board of detectors has none
            cell = dict(zip(board["fields"], values, strict=True))
            line = board["lines"][cell.pop("line")]["name"]
            own = {name: cell[name] for name in cell if name not in ("place", "rank", "mark")}
            cells.setdefault((path.stem, cell["records"]), set()).add((line, *map(str, own.items())))
    return cells


def test_no_board_loses_a_cell_or_a_number_to_the_merge(tmp_path: Path) -> None:
    """Suites that share a baseline, and run other defenses, tolerances and seeds; then all of results/."""
    first = make_rows(tasks=("reviews",), attacks=("badword",), defenses=("none", "fine-tuning", "mixing"))
    more = make_rows(tasks=("reviews",), attacks=("badword",), defenses=("none", "fine-tuning", "fine-mixing"))
    other = [r if r.defense != "mixing" else renamed([r], "another tolerance")[0] for r in first]
    some = make_rows(tasks=("reviews",), attacks=("badword",), defenses=("none", "fine-tuning", "e-pur"), seeds=(0,))
    suites = [Source("a", first), Source("b", more), Source("c", other), Source("d", some)]
    tasks = {row.task for row in merged(suites)}
    assert tasks == {"reviews", "reviews [c]", "reviews [d]"}
    folders = {"all": suites} | {source.name: [source] for source in suites}
    committed = [
        Source(one.name, records.load(one), records.gate_of(one)) for one in records.folders_of(ROOT / "results")
    ]
    folders |= {"results": committed} | {f"result {i}": [one] for i, one in enumerate(committed)}
    boards = {name: board_cells(build(sources_, folder=tmp_path / name).parent) for name, sources_ in folders.items()}
    for alone in boards:
        together = boards["results" if alone.startswith("result") else "all"]
        for place, numbers in boards[alone].items():
            assert numbers <= together[place], (alone, place)
    baseline = [place for place, numbers in boards["all"].items() if "fine-tuning" in {one[0] for one in numbers}]
    assert len(baseline) == 2  # of three seeds, and of one


def test_folders_of_one_name_stay_apart() -> None:
    rows = make_rows(tasks=("reviews",), attacks=("badword",), defenses=("none", "mixing"), seeds=(0,))
    others = [Source("same", renamed(rows, mark)) for mark in ("x", "y")]
    assert {row.task for row in merged([Source("same", rows), *others])} == {
        "reviews", "reviews [same 2]", "reviews [same 3]",
    }  # fmt: skip


def test_sizes_of_a_task_are_never_mixed() -> None:
    from dataclasses import replace

    def sized(mark: str, **setting: Any) -> list[Row]:
        rows = make_rows(tasks=("reviews", "questions"), attacks=("badword",), seeds=(0,))
        return renamed([replace(row, conditions=setting if row.task == "reviews" else {}) for row in rows], mark)

    def tasks(*settings: dict[str, Any]) -> set[str]:
        sources = [Source(str(i), sized(str(i), **setting)) for i, setting in enumerate(settings)]
        return {row.task for row in merged(sources) if row.task.startswith("reviews")}

    small, whole = {"max_train": 2000, "max_test": 800, "epochs": 3}, {"max_train": None, "max_test": None, "epochs": 3}
    assert tasks(small, small) == {"reviews", "reviews [1]"}  # one setting, and cells that differ otherwise
    assert tasks(small, whole) == {"reviews [2,000 to train on]", "reviews [all to train on]"}
    longer = {**small, "epochs": 9}
    assert tasks(small, longer) == {"reviews [epochs 3]", "reviews [epochs 9]"}
    assert "reviews [2,000 to train on, 800 to test on, epochs 9]" in tasks(small, whole, longer)


def test_the_strictest_gate_holds() -> None:
    gates = [Gate(min_asr=80, max_acc_drop=2, max_ftr=1), Gate(min_asr=95, max_acc_drop=5)]
    assert strictest(gates) == Gate(min_asr=95, max_acc_drop=2, max_ftr=1) and strictest([]) == Gate()


def test_the_table_component_becomes_a_plain_script() -> None:
    made = classic_script("const a=1,b=2;export{a as jQuery,b as default};")
    assert "export" not in made and "window.DataTable=b;" in made
    with pytest.raises(RequestError, match="unknown form"):
        classic_script("const a=1;")


def test_bibliography_names_every_work_once() -> None:
    citations = [
        "Gu et al. 2017, arXiv 1708.06733; Kurita et al., ACL 2020, arXiv 2004.06660",
        "Zhang et al., Findings of EMNLP 2022, arXiv 2210.09545",
        "control; Zhang et al., Findings of EMNLP 2022, arXiv 2210.09545",
    ]
    text = bibliography(citations)
    assert text.count("@misc{") == 3 and text.count("eprint = {2210.09545}") == 1
    assert "author = {{Kurita} and others}" in text and "eprint = {1708.06733}" in text
    assert "title = {{Fine-mixing: Mitigating Backdoors in Fine-tuned Language Models}}" in text
    keys = re.findall(r"@\w+\{([^,]+),", text)
    assert len(keys) == len(set(keys)) and "zhang2022fine" in keys


def test_rows_come_from_records_alone(tmp_path: Path) -> None:
    folder = tmp_path / "historic"
    files = [path.read_bytes() for path in sorted(HISTORIC.glob("*.json")) if b'"cell":' in path.read_bytes()]
    documents = [json.loads(file) for file in files]
    (folder / "records" / "ab").mkdir(parents=True)
    for i, file in enumerate(files[:3]):
        (folder / "records" / "ab" / f"{i}.json").write_bytes(file)
    with gzip.open(folder / "records.jsonl.gz", "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(one["record"]) + "\n" for one in documents[3:])
    assert records.folders_of(tmp_path) == [folder]
    rows = records.load(folder)
    assert {row.cell_key for row in rows} == {one["record"]["key"] for one in documents}
    chained = next(row for row in rows if row.defense == "e-pur+fine-tuning")
    assert chained.needs == ("clean", "pretrained") and chained.defense_parameters["fine-tuning.epochs"] == 20
    assert chained.outcomes["acc"] is not None and chained.metric("acc") == 50.0
    build([Source("historic", rows)], folder=tmp_path / "site")


def test_committed_results_can_be_read(tmp_path: Path) -> None:
    folders = records.folders_of(ROOT / "results")
    rows = {folder.name: records.load(folder) for folder in folders}
    assert all(rows.values())
    build([Source(name, part) for name, part in rows.items()], folder=tmp_path / "site")


@pytest.mark.parametrize(
    "folder", [path.parent for path in (ROOT / "results").rglob("RESULTS.md")], ids=lambda p: p.name
)
def test_every_sentence_of_committed_results_comes_from_their_records(folder: Path) -> None:
    title = (folder / "RESULTS.md").read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
    written = publish.results(records.load(folder), title=title, gate=records.gate_of(folder))
    assert written == (folder / "RESULTS.md").read_text(encoding="utf-8")


def test_what_is_no_record_is_an_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "a.json").write_text('{"record": {"cell": {}}}')
    with pytest.raises(RequestError, match="a.json.* is not a record"):
        records.load(tmp_path)
    stored = next(path.read_text() for path in sorted(HISTORIC.glob("*.json")) if '"cell"' in path.read_text())
    for seed in ("NaN", '{"a":' * 600 + "1" + "}" * 600):  # no recipe can have the one, nor be so deep
        document = json.loads(stored)["record"]
        document["recipe"]["victim"]["seed"] = "HERE"
        (tmp_path / "records" / "a.json").write_text(json.dumps(document).replace('"HERE"', seed))
        with pytest.raises(RequestError, match="a.json: record .*, field recipe.victim.seed"):
            records.load(tmp_path)
    (tmp_path / "records" / "a.json").write_text("[1")
    with pytest.raises(RequestError, match="a.json.* is not a record"):
        records.load(tmp_path)
    with pytest.raises(RequestError, match="no records in"):
        records.folders_of(tmp_path / "records")
    with pytest.raises(RequestError, match="there is no folder"):
        records.folders_of(tmp_path / "nowhere")
