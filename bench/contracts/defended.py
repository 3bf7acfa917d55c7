"""What comes out of a defense: a model behind it, and its answers; or how suspicious a model is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from bench.contracts.examples import Inputs


@dataclass
class Defended:
    """A model behind a defense. Purified weights are just a model; filters override ``predict``.

    Attributes:
        classifier: the model after the defense.
        notes: JSON values for the record, such as the reserve ratio and the candidates tried.
    """

    classifier: Any
    notes: dict[str, Any] = field(default_factory=dict)
    rejects: ClassVar[bool] = False

    def predict(self, inputs: Inputs) -> Any:
        """Return one answer for each input: :class:`Predictions`, of a generator :class:`Responses`."""
        return self.classifier.predict(inputs)


@dataclass(frozen=True)
class Suspicion:
    """What a detector says of a model.

    Attributes:
        score: the higher, the more suspicious; only its order among models of one task and architecture counts.
        notes: JSON values for the record.
    """

    score: float
    notes: Mapping[str, Any] = field(default_factory=dict)
