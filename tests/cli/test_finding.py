"""How a user finds their way: lists, descriptions, completion, help texts and errors that name what is valid."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from bench.cli import api_reference, listing, reference
from bench.contracts import Access, Budget
from bench.plugins import registry
from bench.suites import suite as suites
from tests.cli.test_cli import doorbench


def names(*arguments: str) -> set[str]:
    return {row["name"] for row in json.loads(doorbench("list", *arguments, "--json").stdout)}


def test_defenses_by_kind_and_needs() -> None:
    entries = registry.defenses.entries
    assert names("defenses") == set(entries)
    assert names("defenses", "--kind", "filter") == {n for n, one in entries.items() if one.plugin.kind == "filter"}
    assert names("defenses", "--needs", "clean") == {n for n, one in entries.items() if one.plugin.needs <= {"clean"}}
    both = names("defenses", "--needs", "clean", "--needs", "pretrained", "--kind", "purification")
    assert "fine-mixing" in both and "fine-tuning" in both and "strip" not in both
    assert names("defenses", "--needs", "nothing") == {n for n, one in entries.items() if not one.plugin.needs}
    shown = doorbench("list", "defenses", "--kind", "filter", COLUMNS="160").stdout
    assert shown.split()[:3] == ["name", "kind", "needs"]
    nothing = doorbench("list", "defenses", "--kind", "detection", "--needs", "oracle")
    assert nothing.stdout == "" and "there are no such defenses" in nothing.stderr


@pytest.mark.parametrize("kind", ["attacks", "defenses", "suites"])
@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_list_shows_every_summary_whole_in_lines_that_can_be_read(
    kind: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    rows = listing.listing(kind)
    listing.show(rows)
    shown = capsys.readouterr().out
    assert "…" not in shown and max(map(len, shown.splitlines())) <= width
    assert len(shown.splitlines()) <= sum(3 + len(row["summary"]) // 25 for row in rows)
    assert all(set(row["summary"].split()) <= set(shown.split()) for row in rows)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "defenses", "--needs", "cleen"], "Did you mean 'clean'"),
        (["list", "defenses", "--kind", "filters"], "Did you mean 'filter'"),
        (["list", "tasks", "--needs", "clean"], "are for `doorbench list defenses`"),
        (["describe", "quikstart"], "Did you mean 'quickstart'"),
        (["describe", "local/nothing-here"], "nothing-here"),
    ],
)
def test_wrong_questions(arguments: list[str], words: str) -> None:
    done = doorbench(*arguments)
    assert done.returncode == 2 and words in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_error_shows_the_nearest_names_and_where_all_are() -> None:
    wrong = doorbench("describe", "fine-mixin").stderr
    assert "Did you mean 'fine-mixing'" in wrong and "`doorbench list " in wrong
    assert wrong.partition("nearest first: ")[2].partition(";")[0].count(",") == 4
    assert len(wrong) < 300
    suite = doorbench("run", "nosuch").stderr
    assert f"all {len(suites.built_in())}: `doorbench list suites`" in suite


def test_whatever_is_listed_can_be_described() -> None:
    for kind in listing.KINDS:
        for row in listing.listing(kind)[:3]:
            result = doorbench("describe", str(row["name"]))
            assert result.returncode == 0 and str(row["name"]) in result.stdout, result.stderr
    assert (
        "labels" in doorbench("describe", "quickstart").stdout or "budget" in doorbench("describe", "quickstart").stdout
    )
    assert json.loads(doorbench("describe", "embedded", "--json").stdout)["parameters"] > 20e6


def test_data_of_ones_own_is_described(world: object) -> None:
    description = json.loads(doorbench("describe", "local/single", "--json").stdout)
    assert (description["train"], description["validation"], description["test"]) == (160, 80, 60)
    assert description["labels"] == ["0", "1"] and description["texts"] == "single"


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("doorbench run quick", {"quickstart"}),
        ("doorbench table la", {"last"}),
        ("doorbench list def", {"defenses"}),
        ("doorbench list defenses --kind fil", {"filter"}),
        ("doorbench list defenses --needs pre", {"pretrained"}),
        ("doorbench describe fine-mixing-", {"fine-mixing-sel"}),
        ("doorbench jud", {"judge"}),
    ],
)
def test_completion(typed: str, wanted: set[str]) -> None:
    asked = {"_DOORBENCH_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    code = "import sys; sys.argv = ['doorbench']\nfrom bench.cli.app import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **asked}, timeout=120
    )
    assert set(done.stdout.split()) == wanted, (done.stdout, done.stderr)


def test_flags_take_no_value_in_help() -> None:
    for command in (["run"], ["list"], ["store", "gc"], []):
        assert "<bool>" not in doorbench(*command, "--help").stdout


def test_public_names_and_nothing_else() -> None:
    import bench
    import doorbench as package

    assert set(dir(package)) == {*package.__all__, "__version__"}
    assert set(dir(bench)) == {*bench.__all__, "__version__"}


def test_reference_has_every_field_of_a_suite_and_every_public_name() -> None:
    pages = reference.pages()
    for model in (suites.Suite, suites.Gate, suites.Collection, Budget):
        for field, info in model.model_fields.items():
            assert f"| `{field}` |" in pages["suites"] and info.description
    example = pages["suites"].partition("```yaml\n")[2].partition("```")[0]
    import yaml

    assert suites.check(yaml.safe_load(example), "the example").name == "my-suite"
    for room in api_reference.ROOMS:
        offered = api_reference.public(room)
        assert offered, room
        for name in offered:
            assert f"### {name}\n" in pages["api"]
    table = api_reference.table_of_members(Access)
    for name in ("clean", "pretrained", "untrained", "choose", "test_stream", "other_models"):
        assert f"| `{name}" in table


def test_counts_are_words() -> None:
    from bench.store.words import counted

    assert (counted(1, "cell"), counted(0, "cell"), counted(1200, "cell")) == ("1 cell", "0 cells", "1,200 cells")
    checked = doorbench("check", "few-shot", "--quick").stdout.splitlines()[-1]
    assert checked.startswith("1 plugin, ")
