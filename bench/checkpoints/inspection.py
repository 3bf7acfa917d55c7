"""``doorbench inspect``: what a checkpoint's weights and answers say, in plain words, without a verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import seeds
from bench._version import __version__
from bench.checkpoints import clean, drift, folder, probes, words
from bench.checkpoints.kinds import opened
from bench.checkpoints.purify import measured, responses
from bench.checkpoints.suspect import Suspect
from bench.contracts import Kind, Model, TaskFacts
from bench.contracts.examples import Inputs
from bench.errors import RequestError

if TYPE_CHECKING:
    from bench.models.tensors import LazyWeights

SCHEMA = 1
TIMED = 32  # examples that say how fast the model is here
SENTENCE = "This sentence of ordinary length stands in for the clean examples that were not given."


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to inspect and with what.

    Attributes:
        model: the folder.
        pretrained: its clean pre-trained counterpart; word scores and drift need it.
        clean: file with clean examples: labelled texts, or prompts with responses; the reference of drift and
            most tests need it.
        texts: file with texts to run through the filters; prompts for a model that writes.
        top: words to list.
        tests: names of detectors and filters to run; by default all whose needs are met.
        max_length: tokens kept of an input, or of a prompt.
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
    suspect = opened(request.model)
    data = None if request.clean is None else suspect.read(request.clean, seed=request.seed)
    texts = None if request.texts is None else suspect.texts(request.texts)
    tests = probes.chosen(request.tests)
    if data is not None and texts is not None and data.pair != (texts.pairs is not None):
        has, lacks = (request.clean, request.texts) if data.pair else (request.texts, request.clean)
        column = "text_pair" if suspect.kind == Kind.CLASSIFICATION else "system"
        raise RequestError(f"{has} has a column {column!r} and {lacks} has none; either both have it or none.")
    facts = suspect.facts(*([] if data is None else [data.all]), max_length=request.max_length)
    options: dict[str, Any] = {"device": request.device, "precision": "auto", "lean": None, "scratch": scratch}
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "command": "inspect",
        "version": __version__,
        "model": {"folder": str(request.model), "sha256": suspect.checkpoint.weight_hash(),
                  "kind": suspect.kind.value, "type": suspect.config.model_type, "labels": list(suspect.labels),
                  "bytes": suspect.bytes},
        "mark": suspect.mark,
        "pretrained": request.pretrained,
        "clean": None if data is None else len(data.tuning) + len(data.selection),
        "measure": suspect.measure(facts),
        "accuracy": None,
        "responses": [],
        "words": None,
        "ordinary_flips": None,
        "drift": None,
        "tests": [],
        "limits": folder.NO_PROOF,
        "seconds": 0.0,
    }  # fmt: skip
    with suspect.model(facts, **options) as received:
        pretrained = suspect.counterpart(request.pretrained, received.model) if request.pretrained else None
        if data is not None:
            report["accuracy"], said = measured(received, data.selection, facts)
            report["responses"] = responses(data.selection, before=said)
        if pretrained is not None:
            report["words"], report["ordinary_flips"] = _words(request, suspect, received, pretrained, data, facts)
            model = received.model
            report["drift"] = {
                "parts": [asdict(part) for part in drift.profile(pretrained, model.get_parameter, pretrained)],
                "reference": None,
            }
        given = probes.Given(suspect, facts, data, pretrained, texts, request.seed)
        report["tests"] = probes.planned(tests, given, pass_seconds=_pass_seconds(suspect, received, data))
        for test in report["tests"]:
            report["seconds"] = time.perf_counter() - started
            on_progress(report)
            if test["status"] == "waiting":
                on_test(test)
                probes.run(test, given, received)
        del received, given
    if pretrained is not None and data is not None:
        with suspect.model(facts, **options) as reference:
            report["drift"]["reference"] = _reference(suspect, reference, pretrained, data, request.seed)
    report["seconds"] = time.perf_counter() - started
    on_progress(report)
    return report


def _pass_seconds(suspect: Suspect, model: Any, data: clean.CleanData | None) -> float | None:
    """Return how long one example takes; None for a model that writes, of which no test was timed."""
    if suspect.kind != Kind.CLASSIFICATION:
        return None
    inputs = Inputs((SENTENCE,) * TIMED) if data is None else data.selection.inputs
    inputs = inputs.take(range(min(TIMED, len(inputs))))
    began = time.perf_counter()
    model.logits(inputs)
    return (time.perf_counter() - began) / len(inputs)


def _words(
    request: Request,
    suspect: Suspect,
    received: Model,
    pretrained: LazyWeights,
    data: clean.CleanData | None,
    facts: TaskFacts,
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Return the suspicious words with what each does to clean examples, and what ordinary words do."""
    listed = words.suspicious(received, pretrained, top=request.top)
    if data is None:
        return [{**word.json(), "flips": None} for word in listed], None
    plain = words.ordinary(received, pretrained)
    tokens = [*(word.token for word in listed), *plain]
    flips = suspect.flips(received, tokens, data.all, facts, seed=request.seed)
    entries = [{**word.json(), "flips": flip and flip.json()} for word, flip in zip(listed, flips, strict=False)]
    return entries, words.ordinary_flips(received.tokenizer, plain, flips[len(listed) :])


def _reference(
    suspect: Suspect, reference: Model, pretrained: LazyWeights, data: clean.CleanData, seed: int
) -> dict[str, Any]:
    """Fine-tune the pre-trained model on the clean examples and return how far that moved it, part by part."""
    from bench import learning

    fresh: Any = suspect.untrained(reference, pretrained, seed=seeds.derive("head", "own", seed))
    every, order = data.all, seeds.derive("data order", "own", seed)
    notes = learning.train(fresh, every, seed=order, **suspect.tuning)
    parts = drift.profile(pretrained, fresh.model.get_parameter, pretrained)
    return {
        "examples": len(every),
        "epochs": suspect.tuning["epochs"],
        "steps": notes["steps"],
        "parts": [asdict(part) for part in parts],
    }
