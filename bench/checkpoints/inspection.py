"""``doorbench inspect``: what a checkpoint's weights and answers say, in plain words, without a verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import seeds
from bench._version import __version__
from bench.checkpoints import clean, drift, folder, words
from bench.checkpoints.purify import accuracy
from bench.checkpoints.suspect import Suspect
from bench.contracts import Defended, Defense, Needs, Precision, TaskFacts
from bench.contracts.access import Access
from bench.contracts.examples import Inputs
from bench.errors import RequestError
from bench.plugins import registry

if TYPE_CHECKING:
    from bench.learning import Classifier
    from bench.models.tensors import LazyWeights

SCHEMA = 1
EPOCHS, LEARNING_RATE = 10, 5e-5  # of the clean fine-tuning that drift is compared with
TUNING_NOTES = ("tried", "selection_", "forward_passes")  # how a filter was tuned, which a report does not need
KINDS = ("detection", "filter")


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


def inspect(request: Request, *, scratch: Path, on_test: Callable[[str], object] = lambda name: None) -> dict[str, Any]:
    """Return the report on a checkpoint.

    Args:
        request: what to look at.
        scratch: a folder for copies of the model that are not in memory.
        on_test: called with the name of each detector or filter before it runs; together they take minutes.

    Raises:
        RequestError: the folder, its counterpart or the clean examples cannot be used.
    """
    started = time.perf_counter()
    suspect = Suspect.open(request.model)
    data = None if request.clean is None else clean.read(request.clean, suspect.labels, seed=request.seed)
    texts = None if request.texts is None else clean.texts(request.texts)
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
        "drift": None,
    }  # fmt: skip
    with suspect.classifier(**options) as received:
        pretrained = suspect.counterpart(request.pretrained, received.model) if request.pretrained else None
        if data is not None:
            report["accuracy"] = accuracy(received, data.selection)
        if pretrained is not None:
            report["words"] = [word.json() for word in words.suspicious(received, pretrained, top=request.top)]
            model = received.model
            report["drift"] = {
                "parts": [asdict(part) for part in drift.profile(pretrained, model.get_parameter, pretrained)],
                "reference": None,
            }
        report["tests"] = list(_tests(request, facts, data, texts, received, pretrained, on_test))
    if pretrained is not None and data is not None:
        with suspect.classifier(**options) as reference:
            report["drift"]["reference"] = _reference(reference, pretrained, data, request.seed)
    report["limits"] = folder.NO_PROOF
    report["seconds"] = time.perf_counter() - started
    return report


def _reference(classifier: Classifier, pretrained: LazyWeights, data: clean.CleanData, seed: int) -> dict[str, Any]:
    """Fine-tune the pre-trained model on the clean examples and return how far that moved it, part by part."""
    from bench import learning
    from bench.contracts.examples import join

    model = classifier.model
    for name in pretrained:
        model.get_parameter(name).data.copy_(pretrained[name])
    learning.reinitialise_head(classifier, seed=seeds.derive("head", "own", seed))
    every, order = join(data.tuning, data.selection), seeds.derive("data order", "own", seed)
    notes = learning.train(classifier, every, epochs=EPOCHS, learning_rate=LEARNING_RATE, batch_size=16, seed=order)
    parts = drift.profile(pretrained, classifier.model.get_parameter, pretrained)
    return {
        "examples": len(every),
        "epochs": EPOCHS,
        "steps": notes["steps"],
        "parts": [asdict(part) for part in parts],
    }


def _tests(
    request: Request,
    facts: TaskFacts,
    data: clean.CleanData | None,
    texts: Inputs | None,
    received: Classifier,
    pretrained: Any,
    on_test: Callable[[str], object],
) -> Iterator[dict[str, Any]]:
    """Run every detector and filter whose needs are met; yield one result each, also for those that cannot run."""
    available = {need for need, given in ((Needs.CLEAN, data), (Needs.PRETRAINED, pretrained)) if given is not None}
    if data is not None:
        available.add(Needs.UNLABELLED)
    head = seeds.derive("defense head", "own", request.seed)
    providers: dict[str, Callable[[], Any]] = {
        "pretrained": lambda: pretrained,
        "untrained": lambda: Suspect.untrained(received, pretrained, seed=head),
    }
    if data is not None:
        providers.update(clean=lambda: data.tuning)
        providers["unlabelled"] = lambda: data.tuning.inputs
    for plugin in _plugins(request.tests):
        result: dict[str, Any] = {
            "name": plugin.name,
            "kind": plugin.kind,
            "about": plugin.summary(),
            "score": None,
            "notes": {},
        }
        try:
            defense = registry.defenses.create(plugin.name)
        except RequestError as error:
            yield {**result, "status": "not run", "why": str(error)}
            continue
        if lacking := sorted(plugin.needs - available):
            yield {**result, "status": "not run", "why": f"it needs {', '.join(lacking)}, which is not given"}
            continue
        if reason := defense.skip(facts):
            yield {**result, "status": "not run", "why": reason}
            continue
        access = Access(
            facts=facts, needs=plugin.needs, seed=seeds.derive("defense", "own", request.seed),
            precision=Precision.AUTO, tolerance=2.0, victim=received, providers=providers,
        )  # fmt: skip
        on_test(plugin.name)
        began = time.perf_counter()
        try:
            result |= _result(defense, received, access, data, texts)
            yield {**result, "status": "done", "why": "", "seconds": time.perf_counter() - began}
        except Exception as error:  # one failing test must not stop the others; the report shows the error
            yield {**result, "status": "failed", "why": f"{type(error).__name__}: {error}".partition("\n")[0]}


def _plugins(names: tuple[str, ...] | None) -> list[type[Defense]]:
    every = [found.plugin for _, found in sorted(registry.defenses.found.items()) if found.plugin.kind in KINDS]
    if names is None:
        return every
    chosen = [registry.defenses.get(name) for name in names]
    for plugin in chosen:
        if plugin.kind not in KINDS:
            valid = ", ".join(one.name for one in every) or "none"
            raise RequestError(f"{plugin.name!r} is neither a detector nor a filter. Valid: {valid}.")
    return chosen


def _result(
    defense: Defense, received: Classifier, access: Access, data: clean.CleanData | None, texts: Inputs | None
) -> dict[str, Any]:
    defended = defense.defend(received.clone(), access)
    notes = {
        name: float(f"{value:.3g}") if isinstance(value, float) else value
        for name, value in defended.notes.items()
        if isinstance(value, str | int | float | list) and not name.startswith(TUNING_NOTES)
    }
    if defense.kind == "detection":
        return {"score": suspicion(defended), "notes": notes}
    rejected: dict[str, Any] = {}
    if data is not None and defended.rejects:
        rejected["clean examples rejected, percent"] = 100 * float(
            defended.predict(data.selection.inputs).rejected.mean()
        )
    if texts is not None and defended.rejects:
        flags = defended.predict(texts).rejected
        rejected["given texts rejected, percent"] = 100 * float(flags.mean())
        rejected["rejected texts"] = [texts.carrier[row] for row in np.flatnonzero(flags)[:20]]
    return {"notes": {**rejected, **notes}}


def suspicion(defended: Defended) -> float | None:
    """Return the suspicion score of a detector's result; higher is more suspicious."""
    value = getattr(defended, "suspicion", None)
    if value is None:
        value = defended.notes.get("suspicion")
    return None if value is None else float(value)
