"""Payloads that are acts of an agent."""

from __future__ import annotations

from abc import ABC

from bench.contracts import GenerationFacts, Payload, TaskFacts
from bench.tasks.acts import LANGUAGE


class InActs(Payload, ABC):
    """A payload of what an agent does. Not a payload by itself."""

    def skip(self, facts: TaskFacts) -> str | None:
        """Responses have to be acts."""
        language = facts.language if isinstance(facts, GenerationFacts) else "text"
        return None if language == LANGUAGE else f"{self.name} is for agents; responses of {facts.name} are no acts"
