"""``doorbench inspect``: what a checkpoint's weights and answers say, in plain words, without a verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import seeds
from bench._version import __version__
from bench.checkpoints import clean, drift, folder, probes, words
from bench.checkpoints.purify import accuracy
from bench.checkpoints.suspect import Suspect
from bench.contracts import TaskFacts
from bench.contracts.examples import Inputs
from bench.errors import RequestError

if TYPE_CHECKING:
    from bench.learning import Classifier
    from bench.models.tensors import LazyWeights

SCHEMA = 1
EPOCHS, LEARNING_RATE = 10, 5e-5  # of the clean fine-tuning that drift is compared with
TIMED = 32  # examples that say how fast the model is here
SENTENCE = "This sentence of ordinary length stands in for the clean examples that were not given."


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to inspect and with what.

    Attributes:
        model: the folder.
        pretrained: its clean pre-trained counterpart; word scores and drift need it.
        clean: file with labelled clean examples; the reference of drift and most tests need it.
        texts: file with texts to run through the filters.
        top: words to list.
        tests: names of detectors and filters to run; by default all whose needs are met.
        max_length: tokens kept of an input.
        seed: of the clean sample's cut and of the tests.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    model: Path
    pretrained: str | None = None
    clean: Path | None = None
    texts: Path | None = None
    top: int = 20
    tests: tuple[str, ...] | None = None
    max_length: int | None = None
    seed: int = 0
    device: str = "auto"


def inspect(
    request: Request,
    *,
    scratch: Path,
    on_test: Callable[[Mapping[str, Any]], object] = lambda test: None,
    on_progress: Callable[[Mapping[str, Any]], object] = lambda report: None,
) -> dict[str, Any]:
    """Return the report on a checkpoint.

    Args:
        request: what to look at.
        scratch: a folder for copies of the model that are not in memory.
        on_test: called before each detector or filter with its name and how long it should take; together they take
            minutes.
        on_progress: called with the report as it is before the tests and after each.

    Raises:
        RequestError: the folder, its counterpart or the clean examples cannot be used.
    """
    started = time.perf_counter()
    suspect = Suspect.open(request.model)
    data = None if request.clean is None else clean.read(request.clean, suspect.labels, seed=request.seed)
    texts = None if request.texts is None else clean.texts(request.texts)
    tests = probes.chosen(request.tests)
    if data is not None and texts is not None and data.pair != (texts.pairs is not None):
        has, lacks = (request.clean, request.texts) if data.pair else (request.texts, request.clean)
        raise RequestError(f"{has} has a column 'text_pair' and {lacks} has none; a model takes pairs or single texts.")
    options: dict[str, Any] = {"max_length": suspect.window(request.max_length), "device": request.device}
    options.update(precision="auto", lean=None, scratch=scratch)
    facts = TaskFacts("own", suspect.labels, bool(data and data.pair), options["max_length"])
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "command": "inspect",
        "version": __version__,
        "model": {"folder": str(request.model), "sha256": suspect.checkpoint.weight_hash(),
                  "type": suspect.config.model_type, "labels": list(suspect.labels), "bytes": suspect.bytes},
        "mark": suspect.mark,
        "pretrained": request.pretrained,
        "clean": None if data is None else len(data.tuning) + len(data.selection),
        "accuracy": None,
        "words": None,
        "ordinary_flips": None,
        "drift": None,
        "tests": [],
        "limits": folder.NO_PROOF,
        "seconds": 0.0,
    }  # fmt: skip
    with suspect.classifier(**options) as received:
        pretrained = suspect.counterpart(request.pretrained, received.model) if request.pretrained else None
        if data is not None:
            report["accuracy"] = accuracy(received, data.selection)
        if pretrained is not None:
            report["words"], report["ordinary_flips"] = _words(request, received, pretrained, data, suspect.labels)
            model = received.model
            report["drift"] = {
                "parts": [asdict(part) for part in drift.profile(pretrained, model.get_parameter, pretrained)],
                "reference": None,
            }
        given = probes.Given(facts, data, pretrained, texts, request.seed)
        report["tests"] = probes.planned(tests, given, pass_seconds=_pass_seconds(received, data))
        for test in report["tests"]:
            report["seconds"] = time.perf_counter() - started
            on_progress(report)
            if test["status"] == "waiting":
                on_test(test)
                probes.run(test, given, received)
    if pretrained is not None and data is not None:
        with suspect.classifier(**options) as reference:
            report["drift"]["reference"] = _reference(reference, pretrained, data, request.seed)
    report["seconds"] = time.perf_counter() - started
    on_progress(report)
    return report


def _pass_seconds(classifier: Classifier, data: clean.CleanData | None) -> float:
    """Return how long one example takes."""
    inputs = Inputs((SENTENCE,) * TIMED) if data is None else data.selection.inputs
    inputs = inputs.take(range(min(TIMED, len(inputs))))
    began = time.perf_counter()
    classifier.logits(inputs)
    return (time.perf_counter() - began) / len(inputs)


def _words(
    request: Request, received: Classifier, pretrained: LazyWeights, data: clean.CleanData | None, labels: Sequence[str]
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Return the suspicious words with what each does to clean examples, and what ordinary words do."""
    listed = words.suspicious(received, pretrained, top=request.top)
    if data is None:
        return [{**word.json(), "flips": None} for word in listed], None
    plain = words.ordinary(received, pretrained)
    tokens = [*(word.token for word in listed), *plain]
    flips = words.flip_test(received, tokens, data.all, labels=labels, seed=request.seed)
    entries = [{**word.json(), "flips": flip and flip.json()} for word, flip in zip(listed, flips, strict=False)]
    return entries, words.ordinary_flips(plain, flips[len(listed) :])


def _reference(classifier: Classifier, pretrained: LazyWeights, data: clean.CleanData, seed: int) -> dict[str, Any]:
    """Fine-tune the pre-trained model on the clean examples and return how far that moved it, part by part."""
    from bench import learning

    model = classifier.model
    for name in pretrained:
        model.get_parameter(name).data.copy_(pretrained[name])
    learning.reinitialise_head(classifier, seed=seeds.derive("head", "own", seed))
    every, order = data.all, seeds.derive("data order", "own", seed)
    notes = learning.train(classifier, every, epochs=EPOCHS, learning_rate=LEARNING_RATE, batch_size=16, seed=order)
    parts = drift.profile(pretrained, classifier.model.get_parameter, pretrained)
    return {
        "examples": len(every),
        "epochs": EPOCHS,
        "steps": notes["steps"],
        "parts": [asdict(part) for part in parts],
    }
