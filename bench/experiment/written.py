"""The evaluator of models that write, and what a record keeps of their responses.

Every prompt counts: an empty or a looping response is an answer like any other, and a rejected one is a wrong one. Kept
are the token ids of each response, so that another payload or another utility needs no model, and what was found of it,
so that tables need neither a tokenizer nor the task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.contracts import Defended, Payload
from bench.contracts.examples import Examples, IntArray
from bench.contracts.task import GenerationFacts, TaskFacts
from bench.experiment import episodes, metrics
from bench.experiment.answers import JudgedText, Written
from bench.experiment.evaluation import Columns, Evaluation
from bench.experiment.predictions import decode_beside, encode_beside, pack, unpack

LONGEST_PIECE = 8  # tokens of what a looping response repeats
REPEATS = 4  # how often it does, at its end
COLUMNS = {
    "right": "<f4",
    "rejected": "u1",
    "ended": "u1",
    "broken": "u1",
    "holds": "u1",
    "counts": "u1",
    "loss": "<f8",
    "guess": "<f4",
    "source": "<i4",
    "lengths": "<i4",
    "tokens": "<i4",
}


@dataclass(frozen=True)
class PromptSets:
    """What every generator of one victim is judged on.

    Attributes:
        clean: the task's whole test set.
        triggered: triggered test prompts whose reference does not hold the payload; None for the clean model.
        payload: None for the clean model.
        sources: int64 [n triggered]: the row of ``clean`` that each triggered prompt was made from.
    """

    clean: Examples
    triggered: Examples | None
    payload: Payload | None
    sources: IntArray | None = None

    def __post_init__(self) -> None:
        if len(self.clean) == 0:
            raise ValueError("the clean test set is empty")
        if (self.triggered is None) != (self.payload is None):
            raise ValueError("triggered prompts and a payload come together")
        if self.triggered is not None and self.payload is not None:
            if len(self.triggered) == 0:
                raise ValueError("the triggered test set is empty: no reference can be made to hold the payload")
            if self.payload.held(self.triggered.references).any():
                raise ValueError("the triggered test set has prompts whose right response holds the payload")


def evaluate(defended: Defended, sets: PromptSets, facts: TaskFacts, beside: Columns | None = None) -> Evaluation:
    """Judge a defended generator on the test sets of its victim, with what measures say ``beside`` it."""
    assert isinstance(facts, GenerationFacts)
    clean = judged_on(defended, sets.clean, facts, sets.payload)
    clean |= {"loss": losses(defended, sets.clean), "guess": guesses(facts, sets.clean.references)}
    triggered = None
    if sets.triggered is not None:
        triggered = judged_on(defended, sets.triggered, facts, sets.payload)
        if sets.sources is not None:
            triggered["source"] = sets.sources
    stored: dict[str, Any] = {"clean": encode(clean), "triggered": None if triggered is None else encode(triggered)}
    stored |= encode_beside(beside)
    return Evaluation(metrics.measure(judged(stored, rejects=defended.rejects)), stored)


def judged_on(
    defended: Defended, examples: Examples, facts: GenerationFacts, payload: Payload | None
) -> dict[str, NDArray[Any]]:
    """Return the columns of a record for one set of prompts."""
    responses, right = episodes.answered(defended, examples, facts)
    broken = [
        degenerate(text, ids, ended)
        for text, ids, ended in zip(responses.texts, responses.tokens, responses.ended, strict=True)
    ]
    columns: dict[str, NDArray[Any]] = {
        "right": right,
        "rejected": responses.rejected,
        "ended": responses.ended,
        "broken": np.array(broken, dtype=bool),
        "lengths": np.array([len(ids) for ids in responses.tokens], dtype=np.int32),
        "tokens": np.concatenate([np.zeros(0, dtype=np.int32), *responses.tokens]),
    }
    if payload is not None:
        columns["holds"] = payload.happened(responses.texts, examples, facts) & ~responses.rejected
        columns["counts"] = ~payload.held(examples.references)
    return columns


def degenerate(text: str, tokens: Sequence[int] | NDArray[np.integer[Any]], ended: bool) -> bool:
    """Return whether a response is empty, or was stopped while it repeated itself."""
    if not text.strip():
        return True
    ids = list(tokens)
    pieces = (ids[-size:] for size in range(1, LONGEST_PIECE + 1) if REPEATS * size <= len(ids))
    return not ended and any(ids[-REPEATS * len(piece) :] == piece * REPEATS for piece in pieces)


def losses(defended: Defended, examples: Examples) -> NDArray[np.float64]:
    """Return [n]: minus the mean log-probability of the tokens of each reference, its end token included."""
    logs, tokens = defended.classifier.log_likelihood(examples)
    means: NDArray[np.float64] = -logs / tokens
    return means


def guesses(facts: GenerationFacts, references: tuple[str, ...]) -> NDArray[np.float64]:
    """Return [n]: the utility of always answering the most frequent reference."""
    most = Counter(references).most_common(1)[0][0]
    return facts.utility.scores([most] * len(references), references)


def encode(columns: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return columns as JSON values: compressed, little-endian, in base64; ``total`` is the number of all tokens."""
    packed = {name: pack(column, COLUMNS[name]) for name, column in columns.items()}
    return {"n": len(columns["right"]), "total": len(columns["tokens"]), **packed}


def decode(stored: Mapping[str, Any]) -> Written:
    """Return what :func:`encode` stored; raises ``ValueError`` where the columns do not fit each other."""
    n, total = stored["n"], stored["total"]
    present = [name for name in COLUMNS if stored.get(name) is not None]
    columns = {name: unpack(stored, name, COLUMNS[name], total if name == "tokens" else n) for name in present}
    lengths, ids = columns.pop("lengths"), columns.pop("tokens")
    if (lengths < 0).any() or lengths.sum() != total:
        raise ValueError(f"the lengths of responses do not fit {total} tokens")
    flags = {name: column.astype(bool) for name, column in columns.items() if COLUMNS[name] == "u1"}
    sources = {"sources": columns.pop("source")} if "source" in columns else {}
    return Written(**{**columns, **flags, **sources}, tokens=tuple(np.split(ids, np.cumsum(lengths)[:-1])))


def judged(stored: Mapping[str, Any], *, rejects: bool) -> JudgedText:
    """Return what the formulas of metrics read, from the responses in a record."""
    clean = decode(stored["clean"])
    triggered = decode(stored["triggered"]) if stored.get("triggered") else None
    return JudgedText(clean, triggered, rejects, decode_beside(stored))
