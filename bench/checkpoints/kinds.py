"""Which kind of model a folder holds."""

from __future__ import annotations

from pathlib import Path

from bench.checkpoints.classifiers import SuspectClassifier
from bench.checkpoints.generators import SuspectGenerator
from bench.checkpoints.suspect import Suspect, located

# The last words of the architecture that config.json names.
ENDINGS: dict[str, type[Suspect]] = {
    "ForSequenceClassification": SuspectClassifier,
    "ForCausalLM": SuspectGenerator,
    "LMHeadModel": SuspectGenerator,
}
# What the Hub calls what a kind of model does.
PIPELINES = {suspect.kind.value: suspect.pipeline for suspect in ENDINGS.values()}


def opened(folder: Path) -> Suspect:
    """Check a folder and return what is in it.

    Raises:
        RequestError: it is missing, no sound model, or of a kind that cannot be used here.
    """
    model = located(folder)
    model.check()
    named = model.checkpoint.architectures()
    for kind in named:
        for ending, suspect in ENDINGS.items():
            if kind.endswith(ending):
                return suspect.open(folder)
    architectures = f"its config.json names the architectures {', '.join(named) or 'none'}"
    raise model.checkpoint.bad(f"it is no sequence classifier and no causal language model: {architectures}")
