"""What a defense is: what it may touch, what it returns, and the board on which it is compared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, ClassVar, Literal

from bench.contracts.access import Access
from bench.contracts.attack import Attack
from bench.contracts.defended import Defended, Suspicion
from bench.contracts.needs import Needs, Other
from bench.contracts.plugin import Plugin
from bench.contracts.task import TaskFacts
from bench.contracts.threat import Acts, Board, Judged, Knows, Received, ThreatModel


class Defense(Plugin, ABC):
    """Removes or blocks a backdoor with what it ``needs``, and nothing else.

    Class attributes:
        needs: what ``access`` hands over.
        purifies: whether the result is a plain classifier, so that another defense can follow in a ``+`` chain.
        kind: purifies the weights, trains from poisoned data, filters inputs at test time, or detects bad models.
        candidates: the field that the shared selection rule chooses and the values that it tries, if there is one.
    """

    needs: ClassVar[frozenset[Needs]] = frozenset()
    purifies: ClassVar[bool] = True
    kind: ClassVar[Literal["purification", "training", "filter", "detection"]] = "purification"
    candidates: ClassVar[tuple[str, tuple[float, ...]] | None] = None

    def skip(self, facts: TaskFacts) -> str | None:
        """Return why this defense makes no sense on a task, or None."""
        return None

    def others(self) -> tuple[Other, ...]:
        """Return the models that ``access.other_models`` holds, for a defense that needs them; they get trained."""
        return ()

    @cached_property
    def wanted(self) -> tuple[Other, ...]:
        """The models of :meth:`others`, each once; every cell of a grid asks for them."""
        return tuple(dict.fromkeys(self.others()))

    @abstractmethod
    def defend(self, classifier: Any, access: Access) -> Defended:
        """Return the defended model.

        Args:
            classifier: this defense's own copy of the victim, which may be changed in place: a ``Classifier``, or any
                ``Model`` where ``kinds`` names more than classification.
            access: what the defense may see.
        """


class Detector(Defense):
    """Says how suspicious a model is, and changes nothing. It is scored by AUROC over victims and clean models."""

    purifies: ClassVar[bool] = False
    kind: ClassVar[Literal["purification", "training", "filter", "detection"]] = "detection"

    @abstractmethod
    def suspicion(self, classifier: Any, access: Access) -> Suspicion:
        """Return a finite score. ``classifier`` is this detector's own copy and may be changed in place."""

    def defend(self, classifier: Any, access: Access) -> Defended:
        """Return an unchanged copy of the model with the score among the notes."""
        unchanged = classifier.clone()
        suspicion = self.suspicion(classifier, access)
        return Defended(unchanged, {**suspicion.notes, "suspicion": suspicion.score})


def threat_of(attack: Attack, defense: Defense | None) -> ThreatModel:
    """Return the threat model of a defense against an attack; None stands for the undefended victim."""
    received = Received.PRE_TRAINED if attack.received == "pre-trained" else Received.FINE_TUNED
    if defense is None:
        return ThreatModel(received)
    knows = Knows.TARGET if Needs.TARGET in defense.needs else Knows.NOTHING
    match defense.kind:
        case "training":
            return ThreatModel(Received.DATA, knows=knows)
        case "filter":
            return ThreatModel(received, acts=Acts.AT_TEST_TIME, knows=knows)
        case "detection":
            return ThreatModel(received, judged=Judged.MODEL, knows=knows)
    return ThreatModel(received, knows=knows)


def board_of(attack: Attack, defense: Defense | None) -> Board:
    """Return the board on which a defense against an attack is compared; a victim is on its attack's."""
    return threat_of(attack, defense).board
