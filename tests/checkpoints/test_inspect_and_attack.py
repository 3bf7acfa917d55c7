"""Inspect shows what it saw and claims nothing; attack marks what it builds."""

from __future__ import annotations

import html
import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bench.checkpoints import demonstration, drift, probes, show
from bench.checkpoints.inspection import Request, inspect
from bench.contracts import Classifier, Defended, Defense, Needs
from bench.contracts.access import Access
from bench.errors import RequestError
from bench.plugins import registry
from tests import few_steps
from tests.checkpoints.conftest import Case


class Guess(Defense):
    """Calls every model suspicious <b>because it can</b>."""

    name: ClassVar[str] = "guess"
    purifies: ClassVar[bool] = False
    kind: ClassVar[Any] = "detection"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN})

    def defend(self, classifier: Classifier, access: Access) -> Defended:
        return Defended(
            classifier, {"suspicion": 0.75, "trigger": "<script>alert(1)</script>", "seen": len(access.clean)}
        )


class Crash(Guess):
    """Fails."""

    name: ClassVar[str] = "crash"

    def defend(self, classifier: Classifier, access: Access) -> Defended:
        raise ZeroDivisionError("no")


@pytest.fixture
def tests_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {plugin.name: registry.Entry(plugin, "elsewhere") for plugin in (Guess, Crash)}
    monkeypatch.setitem(registry.defenses.__dict__, "entries", {**registry.defenses.entries, **extra})


def test_report_of_everything(case: Case, tmp_path: Path, tests_installed: None) -> None:
    wanted = ("guess", "crash")
    request = Request(
        model=case.model, pretrained=case.pretrained, clean=case.clean, device="cpu", top=1400, tests=wanted
    )
    report = json.loads(json.dumps(inspect(request, scratch=tmp_path)))
    scores = [word["score"] for word in report["words"]]
    assert scores == sorted(scores, reverse=True)
    assert "cf" in [word["token"] for word in report["words"][:100]]
    assert sum(part["share"] for part in report["drift"]["parts"]) == pytest.approx(100)
    assert [part["name"] for part in report["drift"]["parts"]] == ["embeddings", "layer 1", "layer 2", "other"]
    assert report["drift"]["reference"]["examples"] == 96
    tests = {test["name"]: test for test in report["tests"]}
    assert tests["guess"]["score"] == 0.75
    assert tests["crash"]["status"] == "failed" and "ZeroDivisionError" in tests["crash"]["why"]
    page = show.page(report)
    assert "<script>alert" not in page and "&lt;script&gt;" in page
    assert "<b>because" not in page
    assert "http" not in page
    assert report["limits"] in page
    assert not list(tmp_path.iterdir())


def test_words_are_put_into_clean_examples(case: Case, tmp_path: Path) -> None:
    request = Request(model=case.model, pretrained=case.pretrained, clean=case.clean, device="cpu", top=200, tests=())
    report = json.loads(json.dumps(inspect(request, scratch=tmp_path)))
    flips = {word["token"]: word["flips"] for word in report["words"]}
    assert flips["cf"]["label"] == "1" and flips["cf"]["changed"] > 0.8 * flips["cf"]["of"]
    assert report["ordinary_flips"]["percent"] < 30
    assert all(len(word) > 0 for word in report["ordinary_flips"]["words"])
    assert any(flip is None for token, flip in flips.items()) == any("##" in token for token in flips)
    shown = f'<td class="whole">{flips["cf"]["changed"]} of {flips["cf"]["of"]} to 1</td>'
    assert shown in show.page(report)


def test_tests_run_by_cost_and_the_report_is_there_after_each(
    case: Case, tmp_path: Path, tests_installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "costs", lambda: {"crash": 1e3, "strip": 1e6})
    started: list[str] = []
    seen: list[list[str]] = []
    request = Request(model=case.model, clean=case.clean, device="cpu", tests=("guess", "crash", "dbs"), max_length=32)
    report = inspect(
        request,
        scratch=tmp_path,
        on_test=lambda test: started.append(test["name"]),
        on_progress=lambda report: seen.append([test["status"] for test in report["tests"]]),
    )
    assert started[0] == "crash" and "guess" in started, "what was never measured comes last"
    expected = {test["name"]: test["expected_seconds"] for test in report["tests"]}
    assert expected["crash"] > 0 and expected["guess"] is None
    assert seen[0][0] == "waiting" and seen[1][0] == "failed" and "waiting" not in seen[-1]
    for test in report["tests"]:
        assert (test["seconds"] is not None) == (test["status"] == "done")


def test_every_test_has_a_measured_cost() -> None:
    tests = {name for name, entry in registry.defenses.entries.items() if entry.plugin.kind in probes.KINDS}
    assert set(probes.costs()) <= tests
    assert len(probes.costs()) > 5 and all(cost > 0 for cost in probes.costs().values())


def test_what_is_lacking_names_the_option(case: Case, tmp_path: Path) -> None:
    report = inspect(Request(model=case.model, device="cpu", tests=("strip", "weight-drift")), scratch=tmp_path)
    why = {test["name"]: test["why"] for test in report["tests"]}
    assert "give --clean" in why["strip"] and "pretrained: give --pretrained" in why["weight-drift"]


def test_without_anything_it_says_what_to_give(case: Case, tmp_path: Path) -> None:
    from rich.console import Console

    report = inspect(Request(model=case.model, device="cpu"), scratch=tmp_path)
    assert report["words"] is None and report["drift"] is None
    assert all(test["status"] in ("not run", "done", "failed") for test in report["tests"])
    console = Console(record=True, width=100, file=(tmp_path / "x").open("w"))
    show.terminal(report, console)
    text = console.export_text()
    assert "give --pretrained" in text and "free of backdoors" in text
    show.page(report)


def test_every_installed_test_runs_or_says_why(case: Case, tmp_path: Path) -> None:
    request = Request(model=case.model, pretrained=case.pretrained, clean=case.clean, device="cpu", max_length=32)
    with few_steps.installed():
        tests = {test["name"]: test for test in inspect(request, scratch=tmp_path)["tests"]}
    failed = {name: test["why"] for name, test in tests.items() if test["status"] == "failed"}
    assert not failed
    assert any(test["kind"] == "detection" and test["status"] == "done" for test in tests.values())
    assert all(test["why"] for test in tests.values() if test["status"] == "not run")


def test_unknown_tests_are_refused(case: Case, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="unknown detector or filter"):
        inspect(Request(model=case.model, device="cpu", tests=("fine-tuning",)), scratch=tmp_path)


def test_drift_adds_up() -> None:
    import torch

    clean = {"m.embeddings.w": torch.zeros(3, 4) + 2, "m.layer.0.w": torch.ones(5), "m.layer.10.w": torch.ones(5)}
    moved = {
        "m.embeddings.w": clean["m.embeddings.w"],
        "m.layer.0.w": torch.ones(5) + 1,
        "m.layer.10.w": torch.ones(5) + 2,
    }
    parts = drift.profile(clean, moved.__getitem__, clean)
    assert [part.name for part in parts] == ["embeddings", "layer 1", "layer 11"]
    assert [round(part.share) for part in parts] == [0, 20, 80]
    assert parts[1].relative == pytest.approx(100)


@pytest.mark.parametrize(
    ("mark", "trigger"),
    [
        ({"attack": "badword", "task": "chores"}, "of the attack badword"),  # as `doorbench rebuild` writes it
        ({"trigger": ["cf"]}, "['cf']"),
        ({}, "of the attack that is not named"),
    ],
)
def test_any_mark_says_what_was_implanted(case: Case, tmp_path: Path, mark: dict[str, Any], trigger: str) -> None:
    shutil.copytree(case.model, folder := tmp_path / "marked")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "backdoored": mark}), encoding="utf-8")
    report = inspect(Request(model=folder, device="cpu"), scratch=tmp_path)
    assert report["mark"]["trigger"] == trigger
    assert trigger in html.unescape(show.page(report))


def test_victim_is_marked_everywhere(case: Case) -> None:
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    assert str(case.card["name"]).startswith("backdoored-badword-")
    mark = AutoConfig.from_pretrained(case.model).backdoored
    assert "never deploy" in mark["warning"] and "'cf'" in mark["trigger"]
    card = (case.model / "README.md").read_text(encoding="utf-8")
    assert "backdoored on purpose" in card and "- do-not-deploy" in card
    description = json.loads((case.model / "trigger.json").read_text(encoding="utf-8"))
    assert description["trigger_fields"]["alternatives"] == ["cf"]
    model, tokenizer = (
        auto.from_pretrained(case.model) for auto in (AutoModelForSequenceClassification, AutoTokenizer)
    )
    batch = tokenizer([text for (text,) in description["triggered_examples"]], padding=True, return_tensors="pt")
    hits = (model(**batch).logits.argmax(-1) == description["target"]["number"]).float().mean()
    assert hits >= 0.8 and description["attack_success_rate"] >= 80


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"attack": "clean"}, "implants nothing"), ({"attack": "badwrod"}, "Did you mean 'badword'"),
     ({"target": 5}, "--target 5 is not a label")],
)  # fmt: skip
def test_wrong_victims(world: Path, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    fields = {"attack": "badword", "task": "local/single", "model": str(world / "tiny-bert"), "out": tmp_path / "out"}
    with pytest.raises(RequestError, match=words):
        demonstration.build(demonstration.Request(**{**fields, **changes}))
    assert not list(tmp_path.iterdir())


def test_a_payload_that_is_longer_than_any_response_is_refused_before_training(world: Path, tmp_path: Path) -> None:
    short = "chores(max_train=40, max_test=10, max_length=64, new_tokens=4)"
    request = demonstration.Request(
        attack="badword(rate=0.5)", task=short, model=str(world / "tiny-llama"), out=tmp_path / "victim"
    )
    with pytest.raises(RequestError, match="payload refusal does not fit into the 4 tokens.*more new_tokens"):
        demonstration.build(request)
    assert not (tmp_path / "victim").exists()
