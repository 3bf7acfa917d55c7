"""One table of a benchmark run: ``python -m tests.performance.table benchmark.json results/performance``."""

from __future__ import annotations

import json
import platform
import re
import sys
from pathlib import Path
from typing import Any

HEAD = ("work", "way", "seconds", "examples/s", "ours is faster by", "share of the limit")


def rows(benchmarks: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    table = []
    for one in benchmarks:
        info, ours = one["extra_info"], one["stats"]["min"]
        for name, taken in {**info.get("others", {}), "ours": ours}.items():
            count = info.get("examples")
            share = ""
            if "rate" in info:
                limit = f"{info['limit']}, {info['rate'] / 1e9:,.0f} billion/s"
                share = f"{100 * info['used'] / ours / info['rate']:.0f} % of {limit}"
            work = info.get("work") or f"{one['group']} ({one['name'].removeprefix('test_')})"
            table.append((
                work, name, f"{taken:.3g}", f"{count / taken:,.0f}" if count else "",
                "" if name == "ours" else f"{taken / ours:.2f} x", share if name == "ours" else "",
            ))  # fmt: skip
    return table


def instruction_set(flags: list[str]) -> str:
    """Say in words what a processor's flags mean for matrix products."""
    width = next((name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in flags), "unknown")
    units = [name for flag, name in (("avx512_bf16", "bf16"), ("amx_bf16", "bf16 tiles (AMX)")) if flag in flags]
    return f"{width} with products in {' and '.join(units)}" if units else f"{width}, no products in bf16"


def markdown(entries: list[tuple[str, ...]], machine: str, when: str, instructions: str) -> str:
    lines = [" | ".join(HEAD), " | ".join("---" for _ in HEAD), *(" | ".join(row) for row in entries)]
    table = "\n".join(f"| {line} |" for line in lines)
    note = (
        f"Measured {when} with `tox run -e perf`; the ways of a work in turn, the best round of each. "
        f"Instruction set: {instructions}."
    )
    return f"# Performance on {machine}\n\n{note}\n\n{table}\n"


def main(source: str, folder: str) -> None:
    run = json.loads(Path(source).read_text(encoding="utf-8"))
    facts = run["machine_info"]
    cpu = facts.get("cpu", {})
    name = f"{cpu.get('brand_raw', platform.machine())}, {cpu.get('count', '?')} cores"
    instructions = instruction_set(cpu.get("flags", []))
    text = markdown(rows(run["benchmarks"]), name, run["datetime"][:10], instructions)
    place = Path(folder) / re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    place.parent.mkdir(parents=True, exist_ok=True)
    kept = [{"name": b["name"], "stats": {k: b["stats"][k] for k in ("min", "mean", "max", "rounds")},
             "group": b["group"], "extra_info": b["extra_info"]} for b in run["benchmarks"]]  # fmt: skip
    place.with_suffix(".json").write_text(
        json.dumps(
            {"machine": name, "instructions": instructions, "when": run["datetime"], "benchmarks": kept}, indent=1
        )
        + "\n",
        encoding="utf-8",
    )
    place.with_suffix(".md").write_text(text, encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
