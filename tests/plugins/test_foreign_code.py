"""What third parties' packages may do while they are imported: it is named, and everything else goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GOOD = '''
from typing import ClassVar
from doorbench.contracts import Access, Classifier, Defended, Defense

class Mine(Defense):
    """Does nothing."""
    name: ClassVar[str] = "{name}"
    citation: ClassVar[str] = "nobody"
    def defend(self, classifier: Classifier, access: Access) -> Defended:
        return Defended(classifier)
'''
BAD = {
    "exits": "import sys\nsys.exit()\n",
    "exits-with-a-word": "raise SystemExit('good\\nbye')\n",
    "raises": "raise ValueError('two\\nlines')\n",
    "interrupts": "raise KeyboardInterrupt\n",
    "ends-a-generator": "raise GeneratorExit\n",
    "is-no-python": "def\n",
    "recurses": "def f(): f()\nf()\n",
    "sleeps": "import time\ntime.sleep(1000)\n",
    "loops": "while True:\n    try:\n        pass\n    except BaseException:\n        pass\n",
    "reads": "import sys\nsys.stdin.read()\n",
    "waits-for-nobody": "import threading\nthreading.Event().wait()\n",
    "fine-mixing": "raise ImportError('broken')\n",
    "e-pur": GOOD.format(name="e-pur"),
    "has-no-plugin": "Mine = 7\n",
}
HANGS = {"sleeps", "loops", "reads", "waits-for-nobody"}
PRINTS = {
    "prints": "print('hello from print')\n",
    "writes": "import os\nos.write(1, b'hello from write\\n')\n",
    "starts-a-process": "import subprocess\nsubprocess.run(['echo', 'hello from a process'])\n",
    "logs": "import logging, sys\nlogging.basicConfig(stream=sys.stdout)\nlogging.warning('hello from a log')\n"
    "sys.stdout.write('hello from a log')\n",
}


def package(folder: Path, texts: dict[str, str], group: str = "doorbench.defenses") -> Path:
    """Write a folder that says that it has a distribution for each text, with one plugin each."""
    for name, text in texts.items():
        module = name.replace("-", "_") + "_of_others"
        (folder / f"{module}.py").write_text(text, encoding="utf-8")
        about = folder / f"{module}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: others-{name}\nVersion: 1.0\n", encoding="utf-8")
        (about / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}:Mine\n", encoding="utf-8")
    return folder


def doorbench(
    folder: Path, *arguments: str, seconds: float = 30, stdin: int = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join((str(ROOT), str(folder)))
    env = {**os.environ, "PYTHONPATH": path, "DOORBENCH_PLUGIN_SECONDS": str(seconds), "COLUMNS": "300"}
    command = [sys.executable, "-m", "doorbench", *arguments]
    with subprocess.Popen(
        command, env=env, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stderr
        out, err = process.stdout.read(), process.stderr.read()
        return subprocess.CompletedProcess(command, process.wait(timeout=120), out, err)


def rows(result: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    return {row["name"]: row["origin"] for row in json.loads(result.stdout)}


def test_each_bad_plugin_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    package(tmp_path, {**BAD, **{name: text + GOOD.format(name=name) for name, text in PRINTS.items()}})
    started = time.monotonic()
    result = doorbench(tmp_path, "list", "defenses", "--json", seconds=3)
    assert time.monotonic() - started < 60
    origins = rows(result)
    assert {name: origins.get(name) for name in PRINTS} == {name: f"others-{name}" for name in PRINTS}
    assert origins["fine-mixing"] == origins["e-pur"] == "built-in"
    assert not (BAD.keys() - {"fine-mixing", "e-pur"}) & origins.keys()
    for name in BAD:
        (line,) = [
            line for line in result.stderr.splitlines() if f"plugin {name} of others-{name} is left out: " in line
        ]
        assert ("took longer than 3 seconds" in line) == (name in HANGS), line
    assert all(f"hello from {what}" in result.stderr for what in ("print", "write", "a process", "a log"))


@pytest.mark.parametrize("group", ["doorbench.attacks", "doorbench.modifiers", "doorbench.tasks"])
def test_every_kind_of_plugin(tmp_path: Path, group: str) -> None:
    package(tmp_path, {"exits": BAD["exits"], "prints": PRINTS["prints"], "fine-mixing": BAD["fine-mixing"]}, group)
    for arguments in (
        ["describe", "fine-mixing", "--json"],
        ["list", "attacks", "--json"],
        ["list", "tasks", "--json"],
    ):
        result = doorbench(tmp_path, *arguments)
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)
        assert "Traceback" not in result.stderr
    refused = doorbench(tmp_path, "describe", "exits")
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1] == f"doorbench: {group[10:-1]} 'exits' cannot be loaded: SystemExit"


def test_a_run_uses_the_built_in_and_says_what_is_broken(tmp_path: Path) -> None:
    package(tmp_path, {"fine-mixing": BAD["fine-mixing"], "exits": BAD["exits"]})
    options = ["--set=defense=fine-mixing", "--dry-run", f"--store={tmp_path / 'store'}"]
    result = doorbench(tmp_path, "run", "quickstart", *options)
    assert result.returncode == 0, result.stderr
    assert "to do" in result.stdout
    refused = doorbench(tmp_path, "run", "quickstart", "--set=defense=exits", "--dry-run")
    assert refused.returncode == 2
    assert "defense 'exits' cannot be loaded: SystemExit" in refused.stderr


@pytest.mark.parametrize("text", ["0", "-1", "nan", "soon", "1e300"])
def test_a_wrong_limit_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    from bench.errors import RequestError
    from bench.plugins import foreign

    monkeypatch.setenv("DOORBENCH_PLUGIN_SECONDS", text)
    with pytest.raises(RequestError, match="DOORBENCH_PLUGIN_SECONDS"):
        foreign.loaded(dict, "nothing")
