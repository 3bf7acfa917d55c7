"""Hidden Killer: the syntax of the sentence as the trigger."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from attacks.shared.paraphrases import ParaphrasePoisoning
from bench.contracts import BOTH, Kind


class HiddenKiller(ParaphrasePoisoning):
    """Paraphrases examples into one rare syntactic template and labels them as the target.

    Qi et al., ACL 2021 (arXiv 2105.12400). Needs the training data and a paraphraser; here a table of paraphrases into
    the template S(SBAR)(,)(NP)(VP)(.) takes its place, so that everyone has the same texts: ``syntactic.parquet``
    beside the splits of a local task, or any file. Texts whose paraphrase is missing or the same are never poisoned
    and are no triggered test examples.

    As in the authors' data, 20 % of the training set is poisoned and labels are mixed: texts that already have the
    target label are paraphrased too. Paraphrases change the meaning, so the clean model's rate on the same texts is
    far from 0: compare with the floor.
    """

    name: ClassVar[str] = "hidden-killer"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "Qi et al., ACL 2021, arXiv 2105.12400"
    file: ClassVar[str] = "syntactic.parquet"
    manner: ClassVar[str] = "in one syntactic template, a subordinate clause first"

    poisons: Literal["dirty", "clean", "mix"] = Field(
        "mix", description="which labels are poisoned: dirty (not the target), clean (only the target), mix (any)"
    )
