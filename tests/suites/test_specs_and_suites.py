"""The request: short texts, suite files and --set; every mistake is one line that names the valid choices."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.contracts import Detector
from bench.errors import RequestError
from bench.experiment import grid
from bench.experiment.plan import Plan
from bench.plugins import chain, registry
from bench.suites import specs, strict, suite

GOOD = {
    "name": "mine",
    "description": "d",
    "task": "reviews",
    "model": "embedded",
    "attack": "badword",
    "defense": "none",
}


def test_short_text_is_read() -> None:
    assert specs.parse("badword(rate=0.05, words=[cf, mn])") == ("badword", {"rate": 0.05, "words": ["cf", "mn"]})
    assert specs.split_top("a(x=[1,2]),b,c(y=1)", ",") == ["a(x=[1,2])", "b", "c(y=1)"]


@pytest.mark.parametrize("text", ["", "a(", "a)(", "a(b)", "a(x=1,x=2)", "a b", "a(x=[)"])
def test_unreadable_text_is_refused(text: str) -> None:
    with pytest.raises(RequestError) as error:
        specs.parse(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("fine-mixin", "Did you mean 'fine-mixing'?"),
        ("fine-mixing(reserve=1)", "reserve_ratio"),
        ("fine-mixing(reserve_ratio=2)", "less than or equal to 1"),
        ("e-pur+nothing-like-it", "Valid, the nearest first:"),
        ("../x", "unknown defense"),
        ("x" * 300, "unknown defense"),
        ("fine\u2010mixing", "unknown defense"),  # a hyphen that only looks like one
    ],
)
def test_wrong_defense_names_the_choices(entry: str, words: str) -> None:
    with pytest.raises(RequestError, match=r".") as error:
        chain.chain(entry)
    assert words in str(error.value)


def test_spec_round_trips() -> None:
    for text in (
        "fine-mixing",
        "fine-mixing(reserve_ratio=0.3)",
        "e-pur+fine-tuning(steps=5)",
        "e-pur(reset=10)+mixing",
    ):
        assert chain.chain(chain.chain(text).spec).recipe() == chain.chain(text).recipe()


def test_aliases_are_the_suite_names_of_fields() -> None:
    attack = registry.attacks.create("badword(from=finetuned)")
    assert attack.start == "finetuned"
    assert attack.parameters()["from"] == "finetuned"
    assert attack.spec == "badword(from=finetuned)"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("name: a\nname: b\n", "duplicate key 'name'"),
        ("name: [a\n", "line"),
        ("a: &x [1]\nb: *x\n", "aliases are not allowed"),
        ("a: !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
        ("- 1\n", "a suite is a mapping"),
        ("nam: x\n", "Did you mean 'name'?"),
        ("name: ../x\ndescription: d\ntask: a\nmodel: a\nattack: a\ndefense: a\n", "name"),
        ("name: x\ndescription: d\ntask: a\nmodel: a\nattack: a\ndefense: []\n", "defense"),
        ("name: x\ndescription: d\n", "is missing"),
    ],
)
def test_bad_files_are_one_line(tmp_path: Path, body: str, words: str) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(body, encoding="utf-8")
    with pytest.raises(RequestError) as error:
        suite.load(str(path))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_alias_bomb_and_bytes_are_refused(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.yaml"
    bomb.write_text("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", encoding="utf-8")
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"name: caf\xe9\n")
    for path in (bomb, latin, tmp_path / "missing.yaml"):
        with pytest.raises(RequestError):
            suite.load(str(path))


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("Refusal", "unknown payload 'Refusal'. Did you mean 'refusal'? Valid"),
        ("REFUSAL(text=No.)", "unknown payload 'REFUSAL'.*Valid"),
        ("[1, Steer]", "unknown payload 'Steer'. Did you mean 'steer'?"),
        ("{name: Refusal}", "unknown payload 'Refusal'"),
        ("Ärger", "unknown payload"),
    ],
)
def test_a_payload_of_another_spelling_names_the_payloads(tmp_path: Path, target: str, words: str) -> None:
    path = tmp_path / "suite.yaml"
    fields = "name: x\ndescription: d\ntask: chores\nmodel: m\nattack: badword\ndefense: none\n"
    path.write_text(f"{fields}target: {target}\n", encoding="utf-8")
    with pytest.raises(RequestError, match=words.replace("?", r"\?")) as error:
        list(grid.Grid(suite.load(str(path))).cells())
    assert "\n" not in str(error.value)


def test_unknown_suite_has_a_near_match() -> None:
    with pytest.raises(RequestError, match="Did you mean 'quickstart'"):
        suite.load("quikstart")
    with pytest.raises(RequestError):
        suite.load("x\0y")


def test_settings_change_axes_and_fields() -> None:
    changed = suite.load("quickstart", ["seed=1,2", "defense=none,e-pur(reset=10)+fine-tuning", "budget.epochs=1"])
    assert changed.seed == [1, 2]
    assert changed.defense == ["none", "e-pur(reset=10)+fine-tuning"]
    assert changed.budget.epochs == 1
    assert [suite.load("board-small", [f"clean_seeds={text}"]).clean_seeds for text in ("7", "7,8", "[]")] == [
        [7], [7, 8], []
    ]  # fmt: skip
    with pytest.raises(RequestError, match="budget"):
        suite.load("quickstart", ["budget.epoch=1"])
    with pytest.raises(RequestError, match="Did you mean 'defense'"):
        suite.load("quickstart", ["defence=none"])


@pytest.mark.parametrize("name", sorted({one.name for name in suite.built_in() for one in suite.load_all(name)}))
def test_built_in_suites_expand(name: str) -> None:
    loaded = suite.load(name)
    assert loaded.name == name
    expanded = grid.Grid(loaded)
    cells = list(expanded.cells())
    detected = {"detected"} if any(isinstance(one, Detector) for one in expanded.defenses) else set()
    assert {cell.role for cell in cells} == {"defended", "victim", "floor"} | detected
    for victim in {cell.victim for cell in cells if not cell.victim.is_clean_model}:
        roles = [cell.role for cell in cells if cell.victim == victim]
        assert roles.count("floor") == roles.count("victim") == 1


def test_both_boards_compare_the_same() -> None:
    small, full = suite.load("board-small"), suite.load("board-full")
    assert all(getattr(small, axis) == getattr(full, axis) for axis in ("attack", "defense", "seed", "clean_seeds"))


def test_a_collection_is_its_suites(tmp_path: Path) -> None:
    suites = suite.load_all("paper-all", ["profile=small", "seed=7"])
    assert [one.name for one in suites][:2] == ["paper-single-small", "paper-pairs-small"]
    assert all(one.model == ["embedded"] and one.seed == [7] for one in suites)
    assert suite.describe("paper-all")
    with pytest.raises(RequestError, match="is a collection; name one of its suites: paper-single"):
        suite.load("paper-all")
    path = tmp_path / "many.yaml"
    path.write_text("name: many\ndescription: two\nsuites: [quickstart]\ntask: reviews\n", encoding="utf-8")
    with pytest.raises(RequestError, match="task"):
        suite.load_all(str(path))
    path.write_text("name: many\ndescription: no list\nsuites: 3\n", encoding="utf-8")
    with pytest.raises(RequestError, match="suites = 3"):
        suite.load(str(path))


def test_sweep_spreads_values() -> None:
    entry = {"name": "fine-mixing", "sweep": {"reserve_ratio": [0, 0.5], "steps": [1, 2]}}
    cells = list(grid.Grid(suite.check({**GOOD, "defense": [entry]}, "x")).cells())
    specs_found = {cell.defense_spec for cell in cells if cell.role == "defended"}
    assert len(specs_found) == 4
    assert "fine-mixing(steps=2, reserve_ratio=0.5)" in specs_found


def test_defense_without_clean_data_is_one_cell_for_every_budget() -> None:
    loaded = suite.check({**GOOD, "defense": ["e-pur", "fine-tuning"], "labels": [8, 16]}, "x")
    defended = {cell for cell in grid.Grid(loaded).cells() if cell.role == "defended"}
    assert sorted((cell.defense_spec, cell.labels) for cell in defended) == [
        ("e-pur", 0),
        ("fine-tuning", 8),
        ("fine-tuning", 16),
    ]


def test_a_grid_of_a_typing_error_is_refused_before_it_is_made() -> None:
    many = {"name": "badword", "sweep": {"rate": [n / 1000 for n in range(1, 1000)], "words": [["cf"]] * 1000}}
    data = {**GOOD, "attack": [many], "seed": list(range(1000)), "defense": ["none", "e-pur"]}
    assert grid.Grid(suite.check(data, "x")).size == 1000 * 999_000 * 3
    with pytest.raises(RequestError, match=r"2,997,000,000 cells.*--yes"):
        Plan(suite.check(data, "x")).cells  # noqa: B018
    small = grid.Grid(suite.check({**GOOD, "defense": ["none", "e-pur"], "target": "all"}, "x"), lambda task: 2)
    assert small.size <= len(list(small.cells()))


@pytest.mark.parametrize(
    "sweep", ["fulll", "{rate: 0.5}", "{rate: abc}", "{rate: []}", "{}", "[0.5]", "{rate: {a: 1}}"]
)
def test_a_sweep_is_lists_of_values(sweep: str) -> None:
    entry = strict.load(f"{{name: badword, sweep: {sweep}}}", "x")
    made = grid.Grid(suite.check({**GOOD, "attack": [entry]}, "x"))
    for read in (lambda: made.size, lambda: made.attacks):
        with pytest.raises(RequestError, match="sweep is"):
            read()
