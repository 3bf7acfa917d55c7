from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from bench.errors import RequestError
from bench.report import show, table
from bench.report.ranking.results import Results
from bench.report.rows.row import Row
from bench.report.tables.cells import build
from bench.report.tables.latex import escape, latex
from bench.report.tables.layout import DAGGER, EXTERNAL, Number, Table, letter
from bench.report.tables.markup import comma_separated, markdown
from bench.report.tables.summary import build as summary
from bench.report.tables.terminal import text
from bench.report.tables.web import html
from tests.report.synthetic import changed, edited, make_rows, not_applicable

NASTY = "<script>alert(1)</script> | 50% of $x_1$ & {y} \\ [bold]"


def rows_with_everything() -> list[Row]:
    """Return rows with a failure, a wait, an n/a, an oracle, a greyed attack and a hostile error message."""
    rows = make_rows(
        attacks=("clean", "badword", "weak"),
        victim=lambda task, attack, seed: (87.0 if task == "reviews" else 81.0, 40.0 if attack == "weak" else 99.0),
    )
    at = ("questions", "badword")
    rows = changed(rows, lambda r: r.defense == "mixing" and (r.task, r.attack) == at, record=None, failure=NASTY)
    rows = changed(rows, lambda r: r.defense == "e-pur" and r.seed == 2, record=None)
    rows = changed(rows, lambda r: r.defense == "fine-mixing-sel" and r.attack == "badword", record=None)
    rows = changed(rows, lambda r: r.defense == "fine-pruning", needs=("clean", "oracle"))
    return [
        not_applicable(r, "pairs only") if r.defense == "fine-pruning-f" and r.task == "reviews" else r for r in rows
    ]


@pytest.fixture(scope="module")
def both() -> list[Table]:
    results = Results(rows_with_everything())
    return [build(results), summary(results)]


def line(board: Table, label: str) -> dict[str, str]:
    cells = next(one.cells for one in board.lines if one.label == label)
    names = [" ".join(column.headings) or column.leaves[0] for column in board.columns]
    return {name: cell.words or " / ".join(cell.texts()) for name, cell in zip(names, cells, strict=True)}


def test_floors_and_ceilings_stand_on_top(both: list[Table]) -> None:
    for board in both:
        assert [one.label for one in board.lines if one.reference] == ["clean model", "no defense"]
        assert [one.reference for one in board.lines][:2] == [True, True]
    assert line(both[0], "clean model")["reviews badword"] == "87.8 ± 0.0 / 9.2 ± 0.0 / 10.5 ± 0.0"
    assert line(both[0], "no defense")["reviews clean"] == "87.0 ± 0.0"


def test_numbers_are_mean_and_standard_deviation_over_seeds() -> None:
    accuracies = iter([80.0, 82.0, 84.0])
    rows = make_rows(tasks=("reviews",), attacks=("badword",), defenses=("none", "mixing"), examples=1000,
                     outcome=lambda t, a, d, s: (next(accuracies), 50.0))  # fmt: skip
    assert line(build(Results(rows)), "mixing")["reviews badword"].startswith("82.0 ± 2.0 / 49.9 ± 0.0")


def test_one_seed_has_no_spread() -> None:
    rows = make_rows(tasks=("reviews",), attacks=("badword",), seeds=(7,))
    board = build(Results(rows))
    assert "±" not in line(board, "fine-tuning")["reviews badword"]
    assert any(sentence.startswith("One seed") for sentence in board.footer)


def test_every_state_of_a_cell_is_visible(both: list[Table]) -> None:
    main = both[0]
    assert line(main, "mixing")["questions badword"] == "failed"
    assert line(main, "fine-pruning-f")["reviews badword"] == "n/a"
    assert line(main, "fine-mixing-sel")["reviews badword"] == "…"
    assert "fine-pruning†" in {one.label for one in main.lines}
    notes = "\n".join(main.notes)
    assert f"failed: {NASTY}" in notes and "n/a: pairs only" in notes and "not run yet: 1 of 3 seeds" in notes
    assert "did not implant" in notes
    assert any("3 failed" in sentence and "waiting" in sentence for sentence in main.footer)


def test_what_did_not_implant_is_grey_and_unmarked(both: list[Table]) -> None:
    main = both[0]
    for i, column in enumerate(main.columns):
        cells = [one.cells[i] for one in main.lines]
        weak = column.headings[1] == "weak"
        assert column.grey == weak and all(cell.grey == weak for cell in cells)
        marked = [cell for cell in cells if cell.mark]
        assert bool(marked) == (column.headings[1] == "badword")
        assert [cell.mark for cell in cells].count("best") == (1 if marked else 0)


def test_the_summary_puts_incomplete_defenses_last(both: list[Table]) -> None:
    board = both[1]
    places = [line(board, one.label)["places"] for one in board.lines if not one.reference]
    assert places == sorted(places, key=lambda number: number != "2 of 2")
    assert line(board, "fine-tuning")["time"] == "1.0×"
    assert line(board, "e-pur+fine-tuning")["labels"] == "64"
    assert line(board, "fine-pruning†")["rank"] == "–"
    assert re.fullmatch(r"\d \[\d, \d\]", line(board, "e-pur+fine-mixing")["rank"])
    assert re.fullmatch(r"[\d.]+ \[[\d.]+, [\d.]+\]", line(board, "e-pur+fine-mixing")["DER"])
    left = [float(line(board, "e-pur+fine-mixing")[f"flip rate at −{limit}"]) for limit in (2, 5, 10)]
    assert left == sorted(left, reverse=True)


def test_summary_means_are_means_of_the_table() -> None:
    rows = make_rows(attacks=("badword",), defenses=("none", "mixing"), examples=1000, seeds=(0,),
                     outcome=lambda t, a, d, s: (80.0, 30.0) if t == "reviews" else (70.0, 50.0))  # fmt: skip
    means = line(summary(Results(rows)), "mixing")
    assert means["ACC"] == "75.0" and float(means["ASR"]) == pytest.approx(40, abs=0.2)


def test_several_clean_sizes_are_several_lines() -> None:
    seen: dict[str, Row] = {}
    for row in make_rows(
        tasks=("reviews",), attacks=("badword",), sizes=(16, 64), defenses=("none", "mixing", "e-pur")
    ):
        seen.setdefault(row.cell_key, row)
    labels = [one.label for one in build(Results(seen.values())).lines]
    assert labels == ["clean model", "no defense", "mixing [n=16]", "e-pur", "mixing [n=64]"]


def test_targets_and_models_are_named_where_they_vary() -> None:
    rows = make_rows(tasks=("reviews",), attacks=("badword",), seeds=(0,))
    more = [replace(r, target=0, model="other", victim_key="x" + r.victim_key, cell_key="x" + r.cell_key) for r in rows]
    headings = [column.headings for column in build(Results([*rows, *more])).columns]
    assert headings == [("reviews · embedded", "badword → 1"), ("reviews · other", "badword → 0")]


def test_markdown_has_as_many_cells_in_every_line(both: list[Table]) -> None:
    output = markdown(both[0])
    lines = [one for one in output.splitlines() if one.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", one)) for one in lines} == {len(both[0].columns) + 2}
    assert "<script>" not in output and "**" in output and "failed<sup>" in output
    assert "|  |" not in output


def test_csv_reads_back(both: list[Table]) -> None:
    blocks = comma_separated(both).split("\n\n")
    for block, board in zip(blocks, both, strict=True):
        parsed = list(csv.reader(io.StringIO(block)))
        assert len({len(row) for row in parsed}) == 1 and len(parsed) == len(board.lines) + 1
    cells = dict(
        zip(*(row for row in list(csv.reader(io.StringIO(blocks[0]))) if row[0] in ("defense", "mixing")), strict=True)
    )
    assert cells["questions | badword | ACC"] == "failed"
    assert NASTY in cells["questions | badword | remark"]


class Tags(HTMLParser):
    """Collects tags and checks that they are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.open.append(tag)
        self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_well_formed_escaped_and_labelled(both: list[Table]) -> None:
    output = html(both)
    tags = Tags()
    tags.feed(output)
    assert not tags.open and "script" not in tags.seen and "&lt;script&gt;" in output
    assert tags.seen.count("caption") == tags.seen.count("table") == 2
    assert all("scope" in attributes for tag, attributes in tags.attributes if tag == "th")
    identifiers = [attributes["id"] for _, attributes in tags.attributes if "id" in attributes]
    links = {str(attributes["href"])[1:] for tag, attributes in tags.attributes if tag == "a"}
    assert len(set(identifiers)) == len(identifiers) and links <= set(map(str, identifiers))
    assert "http" not in output and "bold: best" in output


def test_html_rows_are_equally_wide(both: list[Table]) -> None:
    for board in both:
        wide = sum(len(column.leaves) for column in board.columns)
        body = html([board]).split("</thead>")[1].split("</table>")[0]
        for row in body.split("<tr")[1:]:
            spans = [int(span) for span in re.findall(r'colspan="(\d+)"', row)]
            assert row.count("<td") - len(spans) + sum(spans) == wide


def test_latex_is_balanced_and_escaped(both: list[Table]) -> None:
    output = latex(both)
    assert output.count(r"\begin{tabular}") == output.count(r"\end{tabular}") == 2
    assert r"\textless{}script\textgreater{}" in output and r"50\% of \$x\_1\$ \& \{y\} \textbackslash{}" in output
    assert r"\documentclass" not in output and r"\toprule" in output
    for tabular in re.findall(r"\\begin\{tabular\}.*?\\end\{tabular\}", output, re.DOTALL):
        columns = len(re.match(r"\\begin\{tabular\}\{@\{\}(l r*)", tabular.replace("{}l", "{}l "))[1]) - 1  # type: ignore[index]
        for row in (part for part in tabular.splitlines() if part.endswith(r"\\")):
            spans = [int(span) for span in re.findall(r"\\multicolumn\{(\d+)\}", row)]
            assert len(re.findall(r"(?<!\\)&", row)) + 1 - len(spans) + sum(spans) == columns
    assert escape("é √ 中") == r"é $\surd$ \texttt{U+4E2D}"
    assert escape(DAGGER + EXTERNAL) == r"$\dagger$$\ddagger$"


def test_wide_latex_is_split_by_task() -> None:
    rows = make_rows(attacks=("clean", "a", "b", "c", "d"), seeds=(0,), defenses=("none", "e-pur"),
                     outcome=lambda t, a, d, s: (85.0, 5.0))  # fmt: skip
    output = latex([build(Results(rows))])
    assert output.count(r"\begin{tabular}") == 2 and output.count(r"\begin{table*}") == 1


def test_long_latex_goes_on_in_a_table_of_the_same_number() -> None:
    rows = make_rows(attacks=("clean", "a", "b", "c", "d"), seeds=(0,), outcome=lambda t, a, d, s: (85.0, 5.0),
                     defenses=("none", *(f"d{i}" for i in range(20))))  # fmt: skip
    first, second = latex([build(Results(rows))]).split(r"\end{table*}")[:2]
    assert "reviews" in first and "questions" in second and ", continued." in second
    assert r"\addtocounter{table}{-1}" in second and r"\addtocounter" not in first
    assert "minipage" in second and "minipage" not in first


def test_many_attacks_and_few_defenses_are_turned() -> None:
    attacks = ("clean", "weak", *(f"attack-{i}" for i in range(6)))
    rows = make_rows(
        attacks=attacks,
        defenses=("none", "mixing"),
        victim=lambda task, attack, seed: (87.0, 40.0 if attack == "weak" else 99.0),
    )
    upright = build(Results(changed(rows, lambda r: r.seed == 2 and r.defense == "mixing", record=None)))
    turned = upright.readable(turned="attack")
    assert [board.title.rpartition("; ")[2] for board in turned] == ["reviews", "questions"]
    for board in turned:
        task = board.title.rpartition("; ")[2]
        assert [one.label for one in board.lines] == list(attacks)
        for defense in ("clean model", "no defense", "mixing"):
            for attack in attacks:
                shown = line(board, attack)[defense].replace(" / –", "")
                assert shown == line(upright, defense)[f"{task} {attack}"]
        weak = next(one for one in board.lines if one.label == "weak")
        assert all(cell.grey for cell in weak.cells) and "did not implant" in board.notes[weak.notes[0]]
        assert "not run yet: 1 of 3 seeds" in board.notes[weak.cells[-1].notes[0]]
        assert f"weak<sup>{letter(weak.notes[0])}</sup> |" in markdown(board)
        assert f"weak$^{{{letter(weak.notes[0])}}}$ &" in latex([board])
        assert f"weak [{letter(weak.notes[0])}]" in text([board], width=120)
        assert re.search(rf'scope="row">weak<sup><a href="#t-1-note-{letter(weak.notes[0])}">', html([board], name="t"))
    assert not turned[0].footer and turned[1].footer == upright.footer
    narrow = build(Results(make_rows(attacks=("badword", "badsent"), defenses=("none", "mixing"))))
    assert narrow.readable(turned="attack") == (narrow,)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_the_document_compiles_alone(both: list[Table], tmp_path: Path) -> None:
    (tmp_path / "t.tex").write_text(latex(both, standalone=True), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]


@pytest.mark.parametrize("width", [220, 100, 60, 34])
def test_the_terminal_table_fits_and_cuts_no_number(both: list[Table], width: int) -> None:
    output = text(both, width=width)
    assert max(len(one) for one in output.splitlines()) <= width
    assert NASTY.split(" ")[0][:20] in output.replace("\n", "")
    whole = set(re.findall(r"\d+\.\d(?:±\d+\.\d)?", text(both, width=400)))
    assert set(re.findall(r"\d+\.\d(?:±\d+\.\d)?", output)) == whole


def test_a_narrow_window_gets_one_table_a_task(both: list[Table]) -> None:
    # The main table is made once for a wide window, and once a task for a narrower one.
    heads = [one for one in text(both[:1], width=150).splitlines() if one.strip().startswith("defense")]
    assert len(heads) == 2
    assert len([one for one in text(both[:1], width=400).splitlines() if one.strip().startswith("defense")]) == 1


def test_the_front_door(both: list[Table]) -> None:
    rows = rows_with_everything()
    output = table(rows, format="md")
    assert all("\n".join(markdown(one).splitlines()[1:]) in output for one in both)
    assert "### invented, fine-tuned model received, 64 labels: " in output
    assert table(rows, format="latex", standalone=True).startswith(r"\documentclass")
    with pytest.raises(RequestError, match="Valid: csv, html, latex, md, terminal"):
        table(rows, format="xlsx")
    console = Console(file=io.StringIO(), width=100)
    show(rows, console=console)
    assert console.file.getvalue()  # type: ignore[attr-defined]


def test_an_empty_suite_still_has_a_table() -> None:
    for format in ("md", "csv", "latex", "html", "terminal"):
        assert table([], format=format)


def test_small_parts() -> None:
    assert [letter(i) for i in (0, 25, 26, 27, 701, 702)] == ["a", "z", "aa", "ab", "zz", "aaa"]
    assert Number(-0.04).text() == "0.0" and Number(1.25, digits=2, unit="×").text() == "1.25×"


def test_a_table_of_several_arithmetics_says_so() -> None:
    rows = make_rows(attacks=("clean", "badword"))
    assert not any("arithmetic" in line for line in build(Results(rows)).footer)
    rows[0] = edited(rows[0], environment={**rows[0].environment, "precision": "bf16", "torch": "2.13.0"})
    assert any(
        "Made by DoorBench 0.1.0, device cpu, arithmetic bf16, fp32." in line for line in build(Results(rows)).footer
    )
