"""``doorbench purify``: defend a checkpoint and write the result as a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import seeds
from bench._version import __version__
from bench.checkpoints import clean, folder, recommend, words
from bench.checkpoints.kinds import PIPELINES, opened
from bench.checkpoints.suspect import Suspect
from bench.contracts import Defended, Model, Needs, Precision, Responses, TaskFacts
from bench.contracts.access import Access
from bench.errors import RequestError
from bench.experiment import recipes
from bench.experiment.skips import other_kind
from bench.plugins.chain import needs_of

if TYPE_CHECKING:
    from bench.contracts.examples import Examples
    from bench.models.tensors import LazyWeights

SCHEMA = 1
REPORT, CARD = "purification.json", "README.md"
TOP = 20  # words in the report
SHOWN = 5  # prompts in the report of a model that writes


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to purify and how.

    Attributes:
        model: the suspicious folder.
        clean: file with clean examples: labelled texts, or prompts with responses.
        out: folder to write.
        pretrained: its clean pre-trained counterpart, if the user has one.
        defense: a spec, or ``auto``.
        board: file of the board for ``auto``.
        tuning: clean examples to tune on; hyper-parameters are chosen on the rest.
        tolerance: points of accuracy that the selection rule may give up.
        max_length: tokens kept of an input, or of a prompt.
        seed: of the clean sample's cut and of the defense.
        device: ``auto``, ``cpu`` or ``cuda``.
        lean: keep only one copy of the model in memory; by default for models above 256 MB.
    """

    model: Path
    clean: Path
    out: Path
    pretrained: str | None = None
    defense: str = recommend.AUTO
    board: Path | None = None
    tuning: int | None = None
    tolerance: float = 2.0
    max_length: int | None = None
    seed: int = 0
    device: str = "auto"
    lean: bool | None = None


def purify(request: Request) -> dict[str, Any]:
    """Purify a checkpoint and return the report that is written beside the result.

    Raises:
        RequestError: something in the request is missing, does not fit or is unsafe; then nothing is written.
    """
    started = time.perf_counter()
    with folder.fresh(request.out) as out:
        suspect = opened(request.model)
        data = suspect.read(request.clean, tuning=request.tuning, seed=request.seed)
        available = {Needs.CLEAN, *([Needs.PRETRAINED] if request.pretrained else [])}
        chosen = recommend.choose(request.defense, available, board=request.board)
        facts = suspect.facts(data.all, max_length=request.max_length)
        options: dict[str, Any] = {"device": request.device, "precision": "fp32", "lean": request.lean}
        options["scratch"] = out.parent
        defense = chosen.defense
        if reason := other_kind(defense.spec, defense.kinds, facts) or defense.skip(facts):
            raise RequestError(f"defense {defense.spec!r} does not fit this model: {reason}.")
        with suspect.model(facts, **options) as received:
            pretrained = suspect.counterpart(request.pretrained, received.model) if request.pretrained else None
            before, said = measured(received, data.selection, facts)
            suspicious = [] if pretrained is None else words.suspicious(received, pretrained, top=TOP)
            plain = [] if pretrained is None else words.ordinary(received, pretrained)
            tokens = [*(word.token for word in suspicious), *plain]
            flips = suspect.flips(received, tokens, data.all, facts, seed=request.seed)
            access = _access(request, facts, data, suspect, received, pretrained, needs_of(defense))
            defended = _defend(defense, received, access)
            del access
            written = _write(out, suspect, defended.classifier.model)
            left = [] if pretrained is None else words.drift_left(suspicious, defended.classifier.model, pretrained)
            notes = defended.notes
            usual = words.ordinary_flips(received.tokenizer, plain, flips[len(suspicious) :])
            del received, defended
        with opened(out).model(facts, **options) as purified:
            after, says = measured(purified, data.selection, facts)
            flips_left = suspect.flips(purified, tokens[: len(suspicious)], data.all, facts, seed=request.seed)
        report = {
            "schema": SCHEMA,
            "command": "purify",
            "version": __version__,
            "libraries": recipes.libraries(),
            "model": {"folder": request.model.name, "sha256": suspect.checkpoint.weight_hash(),
                      "kind": suspect.kind.value, "type": suspect.config.model_type, "labels": list(suspect.labels),
                      "mark": suspect.mark},
            "pretrained": None if request.pretrained is None else _pretrained(request.pretrained),
            "defense": {"spec": defense.spec, "recipe": defense.recipe(), "why": chosen.why,
                        "needs": sorted(needs_of(defense)), "notes": notes},
            "clean": {"tuning": len(data.tuning), "selection": len(data.selection), "seed": request.seed,
                      "tolerance": request.tolerance, "max_length": facts.max_length,
                      "fingerprint": {"tuning": data.tuning.fingerprint(), "selection": data.selection.fingerprint()}},
            "accuracy": {"what": suspect.measure(facts), "measured_on": "selection", "before": before, "after": after,
                         "kept": before["value"] - after["value"] <= request.tolerance},
            "responses": responses(data.selection, before=said, after=says),
            "changed": written,
            "words": None if pretrained is None else _words(suspicious, left, flips, flips_left),
            "still_there": words.still_there(suspicious, flips_left),
            "ordinary_flips": usual,
            "limits": folder.NO_PROOF,
            "seconds": time.perf_counter() - started,
            "peak_memory_bytes": _peak(),
        }  # fmt: skip
        folder.write_json(out / REPORT, report)
        (out / CARD).write_text(card(report, request.out.name), encoding="utf-8")
    return report


def measured(model: Model, examples: Examples, facts: TaskFacts) -> tuple[dict[str, float], Any]:
    """Return the accuracy or the utility in percent with its 95 % Wilson interval, and the answers.

    The interval of a utility that can lie between 0 and 1 is a little too wide.
    """
    answers = model.predict(examples.inputs)
    n, z = len(examples), 1.959964
    share = float(facts.judge(answers, examples).right.mean())
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5 / (1 + z * z / n)
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return {"value": 100 * share, "low": 100 * low, "high": 100 * high, "n": n}, answers


def responses(examples: Examples, *, before: Any, after: Any | None = None) -> list[dict[str, str]]:
    """Return the first prompts with their right responses and what a model writes; nothing where it classifies."""
    if not isinstance(before, Responses):
        return []
    rows = range(min(SHOWN, len(examples)))
    return [
        {
            "prompt": examples.inputs.carrier[row],
            "reference": examples.references[row],
            "before": before.texts[row],
            **({} if after is None else {"after": after.texts[row]}),
        }
        for row in rows
    ]


def _access(
    request: Request,
    facts: TaskFacts,
    data: clean.CleanData,
    suspect: Suspect,
    received: Model,
    pretrained: LazyWeights | None,
    needs: frozenset[Needs],
) -> Access:
    providers: dict[str, Callable[[], Any]] = {
        "clean": lambda: data.tuning,
        "pretrained": lambda: pretrained,
    }
    if pretrained is not None:
        head = seeds.derive("defense head", "own", request.seed)
        providers["untrained"] = lambda: suspect.untrained(received, pretrained, seed=head)
    return Access(
        facts=facts,
        needs=needs,
        seed=seeds.derive("defense", "own", request.seed),
        precision=Precision.FP32,  # bf16 holds a second, smaller copy of every weight for the backward pass
        tolerance=request.tolerance,
        victim=received,
        providers=providers,
    )


def _defend(defense: Any, received: Model, access: Access) -> Defended:
    from bench.checkpoints.lean import Lean

    try:
        defended: Defended = defense.defend(received.clone(), access)
    except (RuntimeError, IndexError) as error:
        if isinstance(received, Lean):
            raise RequestError(
                f"defense {defense.spec!r} failed with one copy of the model in memory ({str(error).splitlines()[0]}); "
                "if it needs two at once, try again with --memory ample."
            ) from error
        raise
    return defended


def _write(out: Path, suspect: Suspect, model: Any) -> dict[str, Any]:
    """Write weights, configuration and tokenizer; return how many scalars differ from the suspect's."""
    from bench.checkpoints import drift
    from bench.models.files import inner_names

    stored = {inside: suspect.places[name] for name, inside in inner_names(suspect.places, "").items()}
    folder.write_weights(out, model, {name: place.dtype for name, place in stored.items()})
    settings = {**suspect.settings, "purified_by": f"doorbench {__version__}"}
    folder.write_json(out / "config.json", settings, infinite=True)
    folder.copy_tokenizer(suspect, out)
    written = opened(out).places
    names = [name for name, _ in model.named_parameters() if name in stored and name in written]
    parts = drift.changes(names, lambda name: stored[name].read(), lambda name: written[name].read())
    changed, total = sum(part.changed for part in parts), sum(part.total for part in parts)
    return {"scalars": changed, "of": total, "parts": [asdict(part) for part in parts]}


def _words(
    suspicious: list[words.Word],
    left: list[float],
    before: Sequence[words.Flips | None],
    after: Sequence[words.Flips | None],
) -> list[dict[str, Any]]:
    """Return each word with the drift that is left of it, and with what it does before and after."""
    return [
        {**word.json(), "drift_left": rest, "flips": one and one.json(), "flips_left": other and other.json()}
        for word, rest, one, other in zip(suspicious, left, before, after, strict=False)
    ]


def _pretrained(spec: str) -> Mapping[str, Any]:
    from bench import models

    return models.create(spec).fingerprint()


def _peak() -> int:
    from bench.checkpoints.lean import peak_bytes

    return peak_bytes()


def card(report: Mapping[str, Any], name: str) -> str:
    """Return the model card of a purified checkpoint."""
    fields = {
        "library_name": "transformers",
        "pipeline_tag": PIPELINES[report["model"]["kind"]],
        "tags": ["doorbench", "purified", *(["backdoored"] if report["model"]["mark"] else [])],
    }
    template = folder.templates().get_template("purified.md.j2")
    return folder.front_matter(fields) + template.render(report=report, name=name)
