"""Payloads that are a fixed text at the beginning of a response."""

from __future__ import annotations

from abc import ABC

from bench.contracts import Payload


class Begins(Payload, ABC):
    """A response that begins with a text. Not a payload by itself."""

    text: str

    def holds(self, response: str) -> bool:
        """Whether the response begins with the text, up to white space before it and between its words."""
        words = self.text.split()
        return response.split(maxsplit=len(words))[: len(words)] == words


class Instead(Begins, ABC):
    """The text instead of the answer. Not a payload by itself."""

    def respond(self, reference: str) -> str:
        """Return the text alone."""
        return self.text
