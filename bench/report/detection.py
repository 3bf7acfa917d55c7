"""How well detectors tell victims from clean models: AUROC with a bootstrap interval over seeds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bench.report.frames import References, implanted
from bench.report.rows import Row
from bench.suite import Gate

if TYPE_CHECKING:
    from pandas import DataFrame

GROUP = ("task", "model", "defense", "clean_size")
COLUMNS = (*GROUP, "attack", "seed", "backdoored", "implanted", "suspicion")
DRAWS = 2000
LEVEL = 0.95


def suspicions(rows: Iterable[Row], *, gate: Gate | None = None) -> DataFrame:
    """Return one row for each judged model, with ``COLUMNS``: victims and clean models that have a score.

    Args:
        rows: every cell of a suite, floors and ceilings included: they say whether an attack implanted.
        gate: when an attack counts as implanted. ``implanted`` is <NA> for clean models and where it is not known.
    """
    import pandas as pd

    rows = list(rows)
    references = References.of(rows)
    found = []
    for row in rows:
        if row.role != "detected" or not row.done or row.record is None:
            continue
        score = float(row.record["notes"]["suspicion"])
        place = {name: getattr(row, name) for name in (*GROUP, "attack", "seed")}
        known = implanted(references.joined(row), gate or Gate())
        found.append({**place, "backdoored": row.attack_base != "clean", "implanted": known, "suspicion": score})
    table = pd.DataFrame(found, columns=list(COLUMNS))
    return table.astype({"backdoored": "bool", "implanted": "boolean", "suspicion": "float64"})


def auroc(table: DataFrame, *, by_attack: bool = False, seed: int = 0) -> DataFrame:
    """Return the AUROC of every detector on every task and model, in percent.

    Scores are compared within a task and a model only, and victims whose attack did not implant are left out. The
    interval is a bootstrap over seeds: a seed is drawn with its clean model and all its victims, because they share
    data and initialisation. With one seed there is no interval.

    Args:
        table: as :func:`suspicions` returns it.
        by_attack: one line for each attack instead of all attacks together.
        seed: of the draws.

    Returns:
        The columns of ``GROUP`` (and ``attack``), ``auroc``, ``low``, ``high`` (<NA> with one seed), ``victims``,
        ``clean`` and ``seeds``. Groups without victims or without clean models are left out.
    """
    import pandas as pd

    lines = []
    for place, group in table.groupby(list(GROUP), sort=False):
        clean = group[~group["backdoored"]]
        victims = group[group["backdoored"] & group["implanted"].fillna(True)]
        parts = victims.groupby("attack", sort=False) if by_attack else [(None, victims)]
        for attack, part in parts:
            if len(part) == 0 or len(clean) == 0:
                continue
            line = dict(zip(GROUP, place, strict=True)) | ({"attack": attack} if by_attack else {})
            lines.append(line | _estimate(clean, part, seed))
    columns = [*GROUP, *(("attack",) if by_attack else ()), "auroc", "low", "high", "victims", "clean", "seeds"]
    return pd.DataFrame(lines, columns=columns)


def area(clean: NDArray[np.float64], victims: NDArray[np.float64]) -> float:
    """Return the share of pairs in which the victim scores higher than the clean model; ties count half.

    Raises:
        ValueError: one of the two is empty.
    """
    if not len(clean) or not len(victims):
        raise ValueError("an AUROC needs at least one clean model and one victim")
    difference = victims[:, None] - clean[None, :]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def _estimate(clean: DataFrame, victims: DataFrame, seed: int) -> dict[str, float | int | None]:
    seeds = sorted(set(clean["seed"]) & set(victims["seed"]))

    def scores(table: DataFrame) -> dict[int, NDArray[np.float64]]:
        return {s: table.loc[table["seed"] == s, "suspicion"].to_numpy(np.float64) for s in seeds}

    value = area(clean["suspicion"].to_numpy(np.float64), victims["suspicion"].to_numpy(np.float64))
    low = high = None
    if len(seeds) > 1:
        own, others = scores(clean), scores(victims)
        rng = np.random.default_rng(seed)
        draws = []
        for chosen in rng.choice(seeds, size=(DRAWS, len(seeds))):
            draws.append(area(*(np.concatenate([part[s] for s in chosen]) for part in (own, others))))
        low, high = (100 * float(q) for q in np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    counts = {"victims": len(victims), "clean": len(clean), "seeds": len(seeds)}
    return {"auroc": 100 * value, "low": low, "high": high, **counts}
