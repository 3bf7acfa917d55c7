"""How long a person waits before anything happens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.store import Store
from tests.performance.comparison import compare

HELP = [sys.executable, "-m", "bench", "--help"]


@pytest.mark.benchmark(group="start")
def test_help(benchmark: Any) -> None:
    def call(command: list[str]) -> Any:
        return subprocess.run(command, capture_output=True, check=True)

    compare(
        benchmark, work="doorbench --help", ours=lambda: call(HELP),
        others={"importing torch": lambda: call([sys.executable, "-c", "import torch"])}, rounds=5,
    )  # fmt: skip


def test_reading_records_needs_no_torch(world: Path, tmp_path: Path) -> None:
    suite = tmp_path / "tiny.yaml"
    suite.write_text(
        f"name: tiny\ndescription: d\ntask: local/single\nmodel: {world / 'tiny-bert'}\n"
        "attack: badword\ndefense: none\n"
    )
    Store(tmp_path / "store")
    code = "import sys; from bench import session; opened = session.Session.open(sys.argv[1], [], sys.argv[2]);"
    code += "opened.table('md'); opened.export('csv', None); "
    code += "from bench.cli import printing; printing.status(opened);"
    code += "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(suite), str(tmp_path / "store")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
