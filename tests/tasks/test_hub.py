"""Tasks of the Hub, served by a small Hub on this machine; the libraries run as they are, in processes of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.errors import RequestError
from bench.plugins import registry
from tests.fakehub import FakeHub, fake_hub, run_python

GLUE = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
OTHER = "a" * 40
LOAD = """
import json
from bench.plugins import registry
for entry in {entries!r}:
    try:
        task = registry.tasks.create(entry).load()
    except RequestError as error:
        print(json.dumps(str(error)))
        continue
    first = task.train.inputs.texts[0], (task.train.inputs.pairs or (None,))[0]
    sizes = len(task.train), len(task.validation), len(task.test)
    print(json.dumps([task.facts.name, task.facts.labels, sizes, first, task.fingerprint]))
"""
CARD = """---
configs:
{configs}
dataset_info:
{infos}
---
"""


def publish(folder: Path, config: str, features: dict[str, list[str] | None], splits: dict[str, pd.DataFrame]) -> None:
    """Write one configuration as parquet files, and its part of the card."""
    (folder / config).mkdir(parents=True)
    configs, infos = [f"- config_name: {config}", "  data_files:"], [f"- config_name: {config}", "  features:"]
    for split, frame in splits.items():
        frame.to_parquet(folder / config / f"{split}-00000-of-00001.parquet")
        configs += [f"  - split: {split}", f"    path: {config}/{split}-*"]
    for column, names in features.items():
        infos += [f"  - name: {column}"]
        if names is None:
            infos += ["    dtype: string"]
        else:
            infos += ["    dtype:", "      class_label:", "        names:"]
            infos += [f"          '{i}': {name}" for i, name in enumerate(names)]
    parts = json.loads((folder / "parts.json").read_text()) if (folder / "parts.json").exists() else [[], []]
    parts = [parts[0] + configs, parts[1] + infos]
    (folder / "parts.json").write_text(json.dumps(parts))
    (folder / "README.md").write_text(CARD.format(configs="\n".join(parts[0]), infos="\n".join(parts[1])))


def single(split: str, n: int) -> pd.DataFrame:
    labels = [-1 if split == "hidden" else i % 2 for i in range(n)]
    return pd.DataFrame({"sentence": [f"{split} {i}" for i in range(n)], "label": labels})


def pairs(split: str, n: int) -> pd.DataFrame:
    table = {"question": [f"{split} {i}?" for i in range(n)], "sentence": [f"{split} {i}." for i in range(n)]}
    return pd.DataFrame({**table, "label": [i % 2 for i in range(n)]})


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    folder = tmp_path_factory.mktemp("glue")
    sst2 = {"train": single("train", 60), "validation": single("dev", 10), "test": single("hidden", 5)}
    publish(folder, "sst2", {"sentence": None, "label": ["negative", "positive"]}, sst2)
    names = ["entailment", "not_entailment"]
    qnli = {"train": pairs("train", 40), "validation": pairs("dev", 8)}
    publish(folder, "qnli", {"question": None, "sentence": None, "label": names}, qnli)
    (folder / "parts.json").unlink()
    with fake_hub() as served:
        served.add("datasets", "nyu-mll/glue", GLUE, folder)
        yield served


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def load(entries: list[str], environment: dict[str, str]) -> list[Any]:
    """Load tasks in one process: facts, sizes, first example and fingerprint of each, or the text of its error."""
    return [json.loads(line) for line in run_python(LOAD.format(entries=entries), environment).splitlines()]


def test_glue_is_tested_on_its_dev_set_and_read_again_offline(hub: FakeHub, home: Path) -> None:
    entries = ["sst2(validation_size=20)", "qnli(validation_size=10)"]
    sst2, qnli = load(entries, hub.environment(home))
    assert sst2[:3] == ["sst2", ["negative", "positive"], [40, 20, 10]]
    assert sst2[3][0].startswith("train") and sst2[3][1] is None
    assert qnli[:3] == ["qnli", ["entailment", "not_entailment"], [30, 10, 8]]
    assert qnli[3][0].endswith("?") and qnli[3][1].endswith(".")
    # the library would serve the cached commit for any other; that is not what was asked for
    *again, refused = load([*entries, f"sst2(revision={OTHER})"], hub.environment(home, offline=True))
    assert again == [sst2, qnli]
    assert refused == f"data set nyu-mll/glue: the cache serves commit {GLUE}, not {OTHER}; allow the network."


def test_any_data_set(hub: FakeHub, home: Path) -> None:
    where = f"hub(repo=nyu-mll/glue, config=sst2, revision={GLUE}"
    endings = [
        "text=sentence, validation=validation, test=validation)",
        "test=validation)",
        "text=sentence, validation_size=10)",
        "text=sentence, test=dev)",
    ]
    good, column, hidden, split = load([f"{where}, {ending}" for ending in endings], hub.environment(home))
    assert good[:3] == ["hub/nyu-mll/glue/sst2", ["negative", "positive"], [60, 10, 10]]
    assert column == "nyu-mll/glue, train: column 'text' is missing; the columns are: 'sentence', 'label'."
    assert "test, row 1, column 'label': the label -1 is out of range; valid: 0 (negative), 1 (positive)" in hidden
    assert "has no split 'dev'; valid: train, validation, test" in split


@pytest.mark.parametrize("offline", [False, True])
def test_what_is_not_there_says_how_to_get_it(hub: FakeHub, tmp_path: Path, offline: bool) -> None:
    errors = load(["imdb", f"sst2(revision={OTHER})"], hub.environment(tmp_path, offline=offline))
    for error, words in zip(errors, ("stanfordnlp/imdb (plain_text)", "nyu-mll/glue (sst2)"), strict=True):
        assert error.startswith(f"data set {words} at ")
        assert "load_dataset(" in error and "HF_HOME" in error and "HF_HUB_OFFLINE" in error
        assert "\n" not in error


@pytest.mark.parametrize("revision", ["main", "", GLUE[:12], f"{GLUE}\n"])
def test_a_revision_is_a_whole_commit(revision: str) -> None:
    for entry in ({"name": "sst2"}, {"name": "hub", "repo": "nyu-mll/glue"}):
        with pytest.raises(RequestError, match="revision"):
            registry.tasks.create({**entry, "revision": revision})


def test_the_built_in_commits_are_whole() -> None:
    for name in ("sst2", "qqp", "qnli", "imdb", "amazon", "agnews"):
        assert len(registry.tasks.create(name).parameters()["revision"]) == 40
    with pytest.raises(RequestError, match="revision is missing"):
        registry.tasks.create("hub(repo=nyu-mll/glue)")
