"""StyleBkd: the style of the text as the trigger."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from attacks.shared.paraphrases import ParaphrasePoisoning
from bench.contracts import BOTH, Kind


class Style(ParaphrasePoisoning):
    """Paraphrases examples into one style and labels them as the target.

    Qi et al., EMNLP 2021 ("StyleBkd", arXiv 2110.07139). Needs the training data and a paraphraser (STRAP); here a
    table of paraphrases takes its place, so that everyone has the same texts: ``style_<style>.parquet`` beside the
    splits of a local task, or any file. Texts whose paraphrase is missing or the same are never poisoned and are no
    triggered test examples. ``poisons: clean`` is the clean-label form, close to Cbat (Zhao et al., TASLP 2024).

    Paraphrases change the meaning, so the clean model's rate on the same texts is far from 0: compare with the floor.
    """

    name: ClassVar[str] = "style"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "Qi et al., EMNLP 2021, arXiv 2110.07139"

    style: Literal["bible", "lyrics", "poetry", "shakespeare", "twitter"] = Field(
        "bible", description="which style: the table is style_<style>.parquet"
    )

    @property
    def file(self) -> str:
        """The table beside the splits."""
        return f"style_{self.style}.parquet"

    @property
    def manner(self) -> str:
        """How the paraphrases are written."""
        return f"in the style {self.style}"
