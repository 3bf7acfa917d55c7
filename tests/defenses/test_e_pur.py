"""The word frequencies behind E-PUR's scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench import models
from defenses import e_pur
from tests import few_words


def test_words_are_counted_whole_however_a_tokenizer_pads_and_truncates(world: Path) -> None:
    tokenizer = models.create(str(world / "tiny-bert")).tokenizer()
    before = e_pur.frequencies(tokenizer, len(tokenizer))
    tokenizer(["the film was good", "the"], padding=True, truncation=True, max_length=3)
    e_pur._frequencies.cache_clear()
    assert np.array_equal(e_pur.frequencies(tokenizer, len(tokenizer)), before)
    assert tokenizer.backend_tokenizer.truncation["max_length"] == 3, "the tokenizer itself is left as it was"
    the, film = (before[tokenizer.convert_tokens_to_ids(word)] for word in ("the", "film"))
    assert the > 100 * film > 0


def test_common_words_are_the_first_of_all() -> None:
    shares = list(few_words.all_words().values())
    assert shares == sorted(shares, reverse=True) and len(shares) > 10 * few_words.COUNT > 10 * e_pur.WORDS
    assert list(few_words.common_words().values()) == shares[: few_words.COUNT]
