"""Commands about the last run, saved suites, own claims and the comparison of two defenses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import session
from bench.errors import RequestError
from bench.suites import suite as suites
from tests.cli.test_cli import SUITE, doorbench

CLAIM = """
- name: own
  statement: Fine-tuning costs less than half of the accuracy.
  origin: ours
  tests:
    - {metric: acc, of: fine-tuning(steps=8), minus: none, above: -50}
"""


def test_the_last_run_has_a_name(world: Path, tmp_path: Path) -> None:
    path, saved, store = tmp_path / "tiny.yaml", tmp_path / "saved.yaml", ("--store", str(tmp_path / "store"))
    path.write_text(SUITE.format(model=world / "tiny-bert"), encoding="utf-8")
    without = doorbench("table", "last", *store)
    assert without.returncode == 2 and len(without.stderr.splitlines()) == 1
    changed = (
        "--set",
        "defense=none,e-pur,fine-tuning(steps=8)",
        "--set",
        "gate.min_asr=0",
        "--set",
        "gate.min_skill=0",
    )
    done = doorbench(
        "run", str(path), *changed, "--save", str(saved), "--no-report", "--engine", "serial", "--device", "cpu", *store
    )
    assert done.returncode == 0, done.stderr
    assert f"doorbench table {saved}" in done.stdout
    settings = [part for part in changed if part != "--set"]
    ran = suites.load(str(path), settings)
    named = {"name": "saved", "description": f"{ran.description} ({', '.join(settings)})"}
    assert suites.load(str(saved)) == ran.model_copy(update=named)
    tables = [doorbench("export", name, "--format", "jsonl", *store).stdout for name in ("last", str(saved))]
    assert tables[0] == tables[1].replace('"suite":"saved"', '"suite":"tiny"')
    assert '"status":"done"' in tables[0].replace(" ", "")
    assert "done" in doorbench("status", "last", *store).stdout

    refused = doorbench("run", str(path), "--set", "task=local/nowhere", "--device", "cpu", *store)
    assert refused.returncode == 2 and doorbench("export", "last", "--format", "jsonl", *store).stdout == tables[0]

    compared = doorbench("compare", "fine-tuning(steps=8)", "none", *store, "--out", str(tmp_path / "figures"))
    assert compared.returncode == 0, compared.stderr
    assert "fine-tuning(steps=8) less none" in compared.stdout
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {"comparison.png", "comparison.pdf"}
    wrong = doorbench("compare", "fine-tunning", "none", *store)
    assert wrong.returncode == 2 and "fine-tuning(steps=8)" in wrong.stderr

    (tmp_path / "own.yaml").write_text(CLAIM, encoding="utf-8")
    claims = doorbench("claims", "last", "--claims", str(tmp_path / "own.yaml"), "--json", *store)
    (verdict,) = json.loads(claims.stdout)
    assert verdict["name"] == "own" and verdict["tests"]
    (tmp_path / "own.yaml").write_text(CLAIM.replace("above", "abov"), encoding="utf-8")
    wrong = doorbench("claims", "last", "--claims", str(tmp_path / "own.yaml"), *store)
    assert wrong.returncode == 2 and "own.yaml: claim 1: tests.0: unknown field 'abov'" in wrong.stderr
    missing = doorbench("claims", "last", "--claims", str(tmp_path / "none.yaml"), *store)
    assert missing.returncode == 2 and missing.stderr.endswith(
        "none.yaml: cannot be read: No such file or directory.\n"
    )


def test_last_is_no_built_in_suite_and_damage_is_said(tmp_path: Path) -> None:
    assert session.LAST not in suites.built_in()
    (tmp_path / "reports").mkdir()
    for content in ("[", "[]", "{}"):
        (tmp_path / "reports" / "last-run.json").write_text(content, encoding="utf-8")
        with pytest.raises(RequestError, match="no suite was run with the store"):
            session.recalled("last", (), tmp_path)
