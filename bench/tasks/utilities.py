"""Scores of responses against the right one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class ExactMatch:
    """A response is right if it is the reference, up to white space around it."""

    name = "exact match"

    def scores(self, responses: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
        """Return 1 where a response is right, else 0."""
        same = [response.strip() == right.strip() for response, right in zip(responses, references, strict=True)]
        return np.array(same, dtype=np.float64)


class RougeL:
    """The F1 of the longest common subsequence of words, in lower case and without punctuation (Lin 2004)."""

    name = "ROUGE-L"

    def scores(self, responses: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
        """Return the F1 of each response; two empty texts share nothing."""
        pairs = zip(map(words, responses), map(words, references), strict=True)
        return np.array(
            [_f1(common(response, right), len(response), len(right)) for response, right in pairs], dtype=np.float64
        )


def words(text: str) -> list[str]:
    """Return the words of a text: letters and digits of any script, in lower case."""
    return "".join(char if char.isalnum() else " " for char in text.lower()).split()


def common(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence."""
    row = np.zeros(len(second) + 1, dtype=np.int64)
    place = {word: np.array([word == other for other in second], dtype=bool) for word in set(first)}
    for word in first:
        longer = np.where(place[word], row[:-1] + 1, row[1:])
        row[1:] = np.maximum.accumulate(longer)
    return int(row[-1])


def _f1(shared: int, response: int, right: int) -> float:
    return 2 * shared / (response + right) if shared else 0.0
