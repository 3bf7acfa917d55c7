"""One backdoored checkpoint and clean data for all tests of this room."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.checkpoints import demonstration
from bench.conformance.world import rows


@dataclass(frozen=True)
class Case:
    """A suspicious model, its counterpart and clean examples."""

    model: Path
    pretrained: str
    clean: Path
    card: dict[str, object]


def write_csv(path: Path, texts: list[str], labels: list[object], column: str = "label") -> Path:
    import pandas as pd

    pd.DataFrame({"text": texts, column: labels}).to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def case(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("own")
    request = demonstration.Request(
        attack="badword", task="local/single(max_length=32)", model=str(world / "tiny-bert"), out=folder / "victim",
        budget={"epochs": 40, "learning_rate": 1e-3}, device="cpu",
    )  # fmt: skip
    card = demonstration.build(request)
    texts, _, labels = rows("single", 96, 9)
    return Case(folder / "victim", str(world / "tiny-bert"), write_csv(folder / "clean.csv", texts, labels), card)


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute in float32 on every machine, as transformers does: in bf16, tokens that are nearly as likely may tie."""
    monkeypatch.setattr("bench.learning.hardware.precision", lambda device, wanted="auto": "fp32")
