"""Prompts and the responses that belong to them, by column: what tasks of generators hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from numpy.typing import ArrayLike

from bench.contracts.examples import Inputs


@dataclass(frozen=True)
class Dialogue:
    """One prompt and its response.

    Attributes:
        prompt: what the user says.
        response: what the model says.
        system: the system text; None for none at all, not even the one that a chat template has by default.
    """

    prompt: str
    response: str = ""
    system: str | None = None


@dataclass(frozen=True)
class Dialogues:
    """Prompts with their responses.

    Prompts are inputs like those of a classifier, so whatever changes texts works on them: a single segment is the
    prompt; of a pair, the first segment is the system text (none where it is empty) and the second one is the prompt,
    which carries the trigger.

    Attributes:
        inputs: n prompts.
        responses: n responses.
    """

    inputs: Inputs
    responses: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.responses) != len(self.inputs):
            raise ValueError(f"{len(self.inputs)} prompts but {len(self.responses)} responses")

    @classmethod
    def of(cls, rows: Iterable[Dialogue]) -> Dialogues:
        """Return the rows as columns."""
        rows = list(rows)
        systems = tuple(row.system or "" for row in rows)
        prompts = tuple(row.prompt for row in rows)
        inputs = Inputs(systems, prompts) if any(systems) else Inputs(prompts)
        return cls(inputs, tuple(row.response for row in rows))

    def __len__(self) -> int:
        return len(self.responses)

    def __iter__(self) -> Iterator[Dialogue]:
        systems = self.inputs.texts if self.inputs.pairs is not None else [""] * len(self)
        for system, prompt, response in zip(systems, self.inputs.carrier, self.responses, strict=True):
            yield Dialogue(prompt, response, system or None)

    def take(self, rows: ArrayLike) -> Dialogues:
        """Return the given rows, in the given order."""
        responses = Inputs(self.responses).take(rows).texts
        return Dialogues(self.inputs.take(rows), responses)

    def fingerprint(self) -> str:
        """SHA-256 over every text."""
        parts = self.inputs.fingerprint() + Inputs(self.responses).fingerprint()
        return hashlib.sha256(parts.encode()).hexdigest()
