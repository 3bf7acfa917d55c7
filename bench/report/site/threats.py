"""Threat models: what a defender received. Each has boards of its own; they are never mixed."""

from __future__ import annotations

from dataclasses import dataclass

from bench.report.rows import Row


@dataclass(frozen=True)
class Threat:
    """A threat model.

    Attributes:
        slug: in file names.
        title: a few words.
        about: one sentence.
    """

    slug: str
    title: str
    about: str


THREATS = {
    threat.slug: threat
    for threat in (
        Threat(
            "fine-tuned-model",
            "Fine-tuned model received",
            "The defender received a fine-tuned classifier that may carry a backdoor, and repairs its weights before use.",
        ),
        Threat(
            "pretrained-model",
            "Poisoned pre-trained model received",
            "The defender received pre-trained weights that may carry a backdoor, and fine-tunes them for a task.",
        ),
        Threat(
            "poisoned-data",
            "Poisoned data received",
            "The defender received a training set that may hold poisoned examples, and trains the classifier.",
        ),
        Threat(
            "test-time-filter",
            "Test-time filter",
            "The defender keeps the received model as it is, and rejects or rewrites inputs while it is in use.",
        ),
        Threat(
            "model-detection",
            "Model detection",
            "The defender only says whether a received model carries a backdoor.",
        ),
    )
}

# Plugins whose threat model does not follow from what they need: the name of an attack or of a defense -> the slug.
DECLARED: dict[str, str] = {}


def threat_of(row: Row) -> Threat:
    """Return the threat model of a cell.

    ``DECLARED`` decides first, by the names of the attack and of each part of the defense. Otherwise a defense that
    needs the training set received poisoned data, one that needs the test stream or does not return plain weights is
    a test-time filter, and any other received a fine-tuned model.
    """
    parts = (row.defense_base or row.defense).split("+")
    for name in (row.attack_base or row.attack, *parts):
        if name in DECLARED:
            return THREATS[DECLARED[name]]
    if "training_set" in row.needs:
        return THREATS["poisoned-data"]
    if "test_stream" in row.needs or not _purifies(parts[-1]):
        return THREATS["test-time-filter"]
    return THREATS["fine-tuned-model"]


def _purifies(name: str) -> bool:
    """Return whether a defense returns plain weights; so it is said of one that is not installed here."""
    from bench import registry

    found = registry.defenses.found.get(name)
    return True if found is None else found.plugin.purifies
