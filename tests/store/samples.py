"""Records and artifacts as the program writes them, only smaller."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np

from bench.keys import key_of


def key(i: object) -> str:
    return key_of({"sample": i})


def plugin(name: str, **parameters: Any) -> dict[str, Any]:
    return {"name": name, "version": 1, "parameters": parameters}


def victim_recipe(seed: int = 0, rate: float = 0.1) -> dict[str, Any]:
    return {
        "kind": "victim",
        "schema": 1,
        "task": {**plugin("reviews", max_length=128), "fingerprint": "f" * 64},
        "model": {"name": "embedded", "weights": "5" * 64},
        "attack": plugin("no-such-attack", rate=rate, words=["cf", "mn"]),
        "seed": seed,
        "target": 1,
        "budget": {"epochs": 3, "learning_rate": 5e-5},
    }


def record(i: object, *, payload: int = 30, **changes: Any) -> dict[str, Any]:
    """Return a whole record; ``payload`` bytes of predictions a set."""
    rng = np.random.default_rng(int(key(i)[:8], 16))
    packed = {"n": 10, "classes": 2, "gold": base64.b64encode(rng.bytes(payload)).decode()}
    seed = i if isinstance(i, int) else 0
    return {
        "schema": 1,
        "key": key(i),
        "kind": "cell",
        "role": "defended",
        "status": "done",
        "error": None,
        "traceback": None,
        "cell": {
            "task": "reviews",
            "model": "embedded",
            "attack": "badword(rate=0.05)",
            "defense": "fine-tuning",
            "seed": seed,
            "target": 1,
            "clean_size": 64,
            "selection_size": 256,
        },
        "recipe": {
            "kind": "cell",
            "role": "defended",
            "victim": victim_recipe(seed),
            "defense": plugin("fine-tuning", epochs=3),
        },
        "victim_key": key(("victim", seed)),
        "metrics": {"acc": 91.25, "asr": 3.5 + seed % 7, "ra": 80.0, "frr": None, "far": None},
        "predictions": {"clean": packed, "triggered": packed},
        "notes": {"loss": 0.25, "tried": [{"value": 0.1}], "Wörter": "naïve"},
        "seconds": {"victim": 12.5, "defense": 1.25, "evaluation": 0.5},
        "environment": {"device": "cpu", "precision": "fp32", "version": "0.1.0"},
        **changes,
    }


def fill(folder: Path) -> None:
    """Write a tiny victim: weights in a folder of their own, a JSON and a parquet-named file."""
    from safetensors.numpy import save_file

    (folder / "weights").mkdir()
    save_file({"w": np.arange(64, dtype=np.float32)}, folder / "weights" / "model.safetensors")
    (folder / "victim.json").write_text(json.dumps({"target": 1}))
    (folder / "triggered.parquet").write_bytes(b"PAR1" * 20)
