"""Values in suites, settings and short texts: what is written is what is run, or it is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bench.contracts import Plugin
from bench.contracts.plugin import spelt
from bench.errors import RequestError
from bench.experiment.grid import Grid, create_attack, create_task
from bench.plugins import registry
from bench.plugins.chain import chain
from bench.suites import specs, strict, suite

PLUGINS = [entry.plugin for kind in registry.by_kind.values() for entry in kind.entries.values()]
AWKWARD = (
    "no cross, no crown",
    "see you #tomorrow",
    "#",
    "Note: this film",
    "2020",
    "2020-01-01",
    "1:30",
    "1e5",
    "yes",
    "Null",
    "~",
    "",
    " ",
    " padded ",
    "two\nlines",
    "tab\there",
    "it's",
    "'tis",
    '"quoted"',
    "'quoted', twice''",
    "back\\slash",
    "\\",
    "a)b(c",
    "[x]",
    "{x}",
    "a+b",
    "a=b",
    "- x",
    "---",
    "...",
    "!tag",
    "&a *b",
    "\x00\x1b[31m",
    "\u2028\ufeff\u3000",
    "naïve 火 😀",
)
TEXTS = st.one_of(st.sampled_from(AWKWARD), st.text(st.characters(exclude_categories=["Cs"])))
NUMBERS = st.integers(-(10**30), 10**30)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.one_of(TEXTS, NUMBERS, FLOATS, st.booleans(), st.none()),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)

DRAWN: dict[Any, Any] = {
    str: TEXTS,
    str | None: st.none() | TEXTS,
    tuple[str, ...]: st.lists(TEXTS).map(tuple),
    bool: st.booleans(),
    int: NUMBERS,
    int | None: st.none() | NUMBERS,
    float: FLOATS,
    float | None: st.none() | FLOATS,
}


@given(VALUES)
def test_a_spelt_value_is_read_as_the_same(value: Any) -> None:
    (read,) = specs.parse(f"name(field={spelt(value)})")[1].values()
    assert read == value and type(read) is type(value)


@given(plugin=st.sampled_from(PLUGINS), data=st.data())
def test_a_spelt_plugin_is_read_as_the_same(plugin: type[Plugin], data: st.DataObject) -> None:
    fields = {name: info for name, info in plugin.model_fields.items() if info.annotation in DRAWN}
    values = {name: data.draw(DRAWN[info.annotation]) for name, info in fields.items()}
    made = plugin.model_construct(**values)
    parameters = made.parameters()
    changed = {info.alias or name: values[name] for name, info in fields.items() if values[name] != info.get_default()}
    assert specs.parse(made.spec) == (plugin.name, {name: parameters[name] for name in changed})


@given(TEXTS.filter(str.strip), TEXTS.filter(str.strip))
def test_a_text_of_an_attack_survives_every_way_to_hand_it_over(first: str, second: str) -> None:
    for entry in (
        {"name": "badsent", "sentence": first},
        {"name": "badword", "words": [first, second]},
        {"name": "anchored+badword", "words": [first, second]},
        {"name": "proattack", "prompt": first},
    ):
        attack = create_attack(entry)
        assert create_attack(attack.spec) == attack
        (read,) = suite.load("quickstart", [f"attack={attack.spec}"]).attack
        assert create_attack(read) == attack


@given(TEXTS.filter(lambda text: bool(text) and "\0" not in text))
def test_every_folder_can_be_named(folder: str) -> None:
    (read,) = suite.load("quickstart", [f"task={specs.local(folder)}"]).task
    assert create_task(read) == create_task({"name": "local", "folder": folder})


@pytest.mark.parametrize(
    "spec",
    ["badword(words=['cf', 'mn'], rate=0.05)", "badsent(sentence=it is a film)", "anchored(strength=3.0)+badword"],
)
def test_a_text_that_needs_no_quotes_has_none(spec: str) -> None:
    assert sorted(create_attack(spec).spec) == sorted(spec)


@pytest.mark.parametrize("quotes", ['"{}"', "'{}'"])
def test_quotes_protect_what_splits(quotes: str) -> None:
    text = quotes.format("no cross, no (crown] = + :")
    assert specs.parse(f"badsent(sentence={text})")[1] == {"sentence": text[1:-1]}
    assert specs.split_top(f"a(x={text})+b", "+") == [f"a(x={text})", "b"]
    assert specs.split_top("a(x='it''s, so', y=don't),b", ",") == ["a(x='it''s, so', y=don't)", "b"]
    assert specs.split_top('a(x="\\", ("),b', ",") == ['a(x="\\", (")', "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("badsent(sentence=see you #tomorrow)", "quotes"),
        ("badsent(sentence=#tomorrow)", "quotes"),
        ("badsent(sentence=two\nlines)", "quotes"),
        ('badsent(sentence="two\nlines")', "\\n"),
        ("badsent(sentence=2020)", 'quotes: "2020"'),
        ("badsent(sentence=no cross, no crown)", "double quotes"),
        ("badword(rate=0.1.2)", "number"),
        ("badword(rate='0.1')", "number"),
        ("badword(rate=true)", "number"),
        ("badword(words=cf)", "array"),
        ("local/my data", 'local(folder="my data")'),
        ("local/a+b", 'local(folder="a+b")'),
    ],
)
def test_what_could_mean_something_else_is_refused_with_the_way_to_write_it(text: str, message: str) -> None:
    with pytest.raises(RequestError) as error:
        create_task(text) if text.startswith("local") else create_attack(text)
    assert message in str(error.value) and "\n" not in str(error.value)


FIELDS = ("seed", "target", "labels", "clean_seeds", "budget.epochs", "budget.batch_size")


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", ["0-2", "0..2", "0:2", "-1", "1.5", "2.0", "'2'", "010", "yes", "true", "1e3", "two"])
def test_a_number_of_a_suite_is_a_whole_number_in_its_bounds(field: str, value: str) -> None:
    if field == "target" and value in ("yes", "two"):
        with pytest.raises(RequestError, match=f"unknown payload '{value}'"):
            list(Grid(suite.load("quickstart", [f"{field}={value}"])).cells())
        return
    with pytest.raises(RequestError) as error:
        suite.load("quickstart", [f"{field}={value}"])
    assert field.split(".")[0] in str(error.value)
    if value.startswith("0") and value != "010" and "." not in field:
        assert "0,1,2" in str(error.value)


@pytest.mark.parametrize("field", ["tolerance", "budget.learning_rate", "budget.warmup", "gate.min_asr"])
@pytest.mark.parametrize("value", ["-1", "'1'", "true", "1:30", ".nan", ".inf", "nan"])
def test_a_share_of_a_suite_is_a_number_in_its_bounds(field: str, value: str) -> None:
    with pytest.raises(RequestError):
        suite.load("quickstart", [f"{field}={value}"])


def test_a_number_may_be_written_in_the_usual_ways() -> None:
    read = suite.load("quickstart", ["seed=3,1_000", "tolerance=2", "budget.learning_rate=2e-5", "labels=16"])
    assert (read.seed, read.tolerance, read.budget.learning_rate, read.labels) == ([3, 1000], 2.0, 2e-5, [16])


NUMERALS = st.text("0123456789.eExXob_+-:", min_size=1, max_size=8)
CONTENTS = st.recursive(
    TEXTS | NUMERALS | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS | NUMERALS, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(CONTENTS)
def test_what_is_saved_reads_back(content: Any) -> None:
    text = strict.dump({"x": content}, allow_unicode=True)
    assert repr(strict.load(text, "x")) == repr({"x": content})


def test_a_suite_that_was_saved_is_the_same_suite() -> None:
    data = {"name": "x", "description": "1e5", "task": "reviews", "model": "embedded", "defense": "none"}
    saved = suite.check({**data, "attack": {"name": "badword", "words": ["1e5", "08", "0o17", ".5"]}}, "x")
    assert suite.check(strict.load(suite.in_yaml(saved), "x"), "x") == saved


@given(st.text())
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    readers: tuple[Any, ...] = (
        specs.parse,
        create_attack,
        chain,
        create_task,
        lambda text: strict.load(text, "x"),
        lambda text: suite.load("quickstart", [text]),
        lambda text: suite.load("quickstart", [f"attack={text}"]),
        lambda text: suite.load("quickstart", [f"seed={text}"]),
    )
    for read in readers:
        try:
            read(text)
        except RequestError as error:
            assert str(error)


GRID = {
    "name": "one",
    "description": "d",
    "task": "reviews",
    "model": "embedded",
    "attack": "badword",
    "defense": "none",
}


@pytest.mark.parametrize("field", ["seed", "clean_seeds", "target"])
@pytest.mark.parametrize("value", [-1, 2**63, True, 1.5, "0..2", [[1]], {"a": 1}, None])
def test_numbers_of_a_suite_fit_into_records_and_name_their_field_when_they_do_not(field: str, value: Any) -> None:
    if field == "target" and isinstance(value, dict):
        return  # a payload with fields
    with pytest.raises(RequestError) as refused:
        suite.check({**GRID, field: [value]}, "s.yaml")
    assert str(refused.value).startswith(f"s.yaml: {field}.0 = ")
    assert not any(word in str(refused.value) for word in ("function-", "constrained-", "[_listed"))


def test_the_largest_number_that_fits_is_taken() -> None:
    assert suite.check({**GRID, "seed": 2**63 - 1}, "s.yaml").seed == [2**63 - 1]


@pytest.mark.parametrize("tag", ["set {1}", "omap [a: 1]", "pairs [a: 1]", "binary aGk=", "timestamp 2020-01-01"])
def test_what_json_does_not_know_is_refused(tag: str) -> None:
    with pytest.raises(RequestError, match="tag"):
        strict.load(f"seed: !!{tag}", "s.yaml")


@pytest.mark.parametrize("name", ["seed", "budget.epochs"])
def test_a_setting_without_a_value_says_how_to_write_it(name: str) -> None:
    with pytest.raises(RequestError, match=f"write --set {name}=VALUE"):
        suite.load("quickstart", [name])


def test_the_halves_of_a_folder_with_a_comma_are_told_how_to_write() -> None:
    one = suite.check({**GRID, "task": ["local/a", "b"]}, "s.yaml")
    with pytest.raises(RequestError, match=r"unknown task 'b'.*'a,b' is written local\(folder=\"a,b\"\)"):
        _ = Grid(one).tasks
    both = suite.check({**GRID, "task": ["reviews", "b"]}, "s.yaml")
    with pytest.raises(RequestError) as refused:
        _ = Grid(both).tasks
    assert "is written" not in str(refused.value)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("budget.epoch=3", "budget: unknown field 'epoch'. Did you mean 'epochs'? Valid: batch_size, epochs,"),
        ("gate.min=3", "gate: unknown field 'min'. Did you mean 'min_asr'? Valid: max_acc_drop,"),
        ("clean_size=16", "A defender has one budget of clean labels, to tune and to choose on: write labels."),
        ("selection_size=16", "write labels."),
    ],
)
def test_an_unknown_field_comes_with_those_that_are_known(tmp_path: Path, setting: str, message: str) -> None:
    name, _, value = setting.partition("=")
    outer, _, inner = name.partition(".")
    fields = {"name": "x", "description": "d", "task": "reviews", "model": "m", "attack": "clean", "defense": "none"}
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(fields), encoding="utf-8")
    with pytest.raises(RequestError, match=re.escape(message)):
        suite.load(str(path), [setting])
    path.write_text(yaml.safe_dump({**fields, outer: {inner: int(value)} if inner else int(value)}), encoding="utf-8")
    with pytest.raises(RequestError, match=re.escape(message)):
        suite.load(str(path))


@pytest.mark.parametrize(
    "spec",
    [
        "badword(words=[cf, ''])",
        "badword(words=['  '])",
        "anchored+badword(words=[''])",
        "ctba(words=[a, b, ' '])",
        "layer-wise(pieces=[cf, ''])",
        'badsent(sentence=" ")',
        'cba(first="\\t")',
    ],
)
def test_a_trigger_is_not_blank(spec: str) -> None:
    with pytest.raises(RequestError, match="blank"):
        create_attack(spec)


@pytest.mark.parametrize("spec", ["e-pur+", "+e-pur", "e-pur++fine-tuning", "+"])
def test_what_stands_before_and_behind_a_plus_is_named(spec: str) -> None:
    with pytest.raises(RequestError, match=re.escape(f"cannot read {spec!r}: nothing stands before or behind a +.")):
        chain(spec)
