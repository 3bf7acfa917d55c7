"""How visible a trigger is: what it changes in the text, and whether a part of it already works.

Everything is measured on a victim in the store: its triggered test examples beside the clean ones they were made from.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import seeds
from bench.contracts import Classifier
from bench.contracts.examples import Inputs
from bench.errors import RequestError
from bench.models.files import error_line
from bench.store.words import counted

if TYPE_CHECKING:
    from bench.experiment.plan import Plan
    from bench.experiment.result_store import ResultStore

log = logging.getLogger(__name__)

Encoder = Callable[[Sequence[str]], Any]
Perplexity = Callable[[Sequence[str]], Any]


@dataclass(frozen=True)
class Stealth:
    """Means over triggered test examples; None where a measure does not apply.

    Attributes:
        changed_words: words introduced or taken out, percent of the clean text's words.
        rarest_rank: median over texts of the frequency rank of the rarest introduced word; 1 is the most frequent word
            of English, and a word that is not in the list ranks behind all others.
        similarity: cosine of the embedded encoder's mean states of the clean and the triggered text, percent.
        false_triggers: texts to which the victim gives another label when clean, but the target when they have only a
            part of the trigger, percent; only for triggers that introduce several words.
        perplexity_ratio: median of the perplexity of the triggered text over that of the clean one.
    """

    changed_words: float
    rarest_rank: float | None
    similarity: float
    false_triggers: float | None
    perplexity_ratio: float | None


@dataclass(frozen=True)
class Edit:
    """One change of a text: ``clean[start:stop]`` became ``words``."""

    start: int
    stop: int
    words: tuple[str, ...]


def edits(clean: str, triggered: str) -> list[Edit]:
    """Return the smallest changes that lead from one text to the other, one per introduced word where possible."""
    before, after = clean.split(), triggered.split()
    changes = []
    for kind, i, j, k, m in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "insert":
            changes += [Edit(i, i, (word,)) for word in after[k:m]]
        elif kind == "replace" and j - i == m - k:
            changes += [Edit(i + n, i + n + 1, (word,)) for n, word in enumerate(after[k:m])]
        elif kind != "equal":
            changes.append(Edit(i, j, tuple(after[k:m])))
    return changes


def applied(clean: str, changes: Sequence[Edit]) -> str:
    """Return the text with the changes, which are in the order of their positions."""
    words, done, at = clean.split(), [], 0
    for change in changes:
        done += [*words[at : change.start], *change.words]
        at = change.stop
    return " ".join([*done, *words[at:]])


def measure(
    clean: Inputs,
    triggered: Inputs,
    *,
    classifier: Classifier,
    target: Any,
    encoder: Encoder,
    rng: np.random.Generator,
    perplexity: Perplexity | None = None,
) -> Stealth:
    """Measure one trigger.

    Args:
        clean: n inputs before the trigger went in.
        triggered: the same inputs with it.
        classifier: the victim.
        target: the target label, or one for each input.
        encoder: texts to vectors of length 1.
        rng: chooses the part of the trigger that is kept.
        perplexity: texts to perplexities; None without a causal language model.
    """
    if len(clean) == 0 or len(clean) != len(triggered):
        raise ValueError(f"{len(clean)} clean and {len(triggered)} triggered inputs")
    changes = [edits(a, b) for a, b in zip(clean.carrier, triggered.carrier, strict=True)]
    shares = [
        sum(max(edit.stop - edit.start, len(edit.words)) for edit in own) / max(1, len(text.split()))
        for own, text in zip(changes, clean.carrier, strict=True)
    ]
    ranks = [max(map(rank, words)) for own in changes if (words := [w for edit in own for w in edit.words])]
    likeness = (encoder(clean.carrier) * encoder(triggered.carrier)).sum(axis=1)
    ratio = None
    if perplexity is not None:
        ratio = float(np.median(perplexity(triggered.carrier) / perplexity(clean.carrier)))
    return Stealth(
        changed_words=100 * float(np.mean(shares)),
        rarest_rank=float(np.median(ranks)) if ranks else None,
        similarity=100 * float(likeness.mean()),
        false_triggers=_false_triggers(clean, changes, classifier, target, rng),
        perplexity_ratio=ratio,
    )


def _false_triggers(
    clean: Inputs, changes: list[list[Edit]], classifier: Classifier, target: Any, rng: np.random.Generator
) -> float | None:
    predicted = classifier.logits(clean).argmax(axis=-1)
    wanted = np.broadcast_to(np.asarray(target), predicted.shape)
    rows = [row for row, own in enumerate(changes) if len(own) > 1 and predicted[row] != wanted[row]]
    if not rows:
        return None
    texts = []
    for row in rows:
        own = changes[row]
        kept = np.sort(rng.permutation(len(own))[: rng.integers(1, len(own))])
        texts.append(applied(clean.carrier[row], [own[i] for i in kept]))
    part = clean.take(rows).with_carrier(texts)
    return 100 * float((classifier.logits(part).argmax(axis=-1) == wanted[rows]).mean())


@cache
def _ranks() -> dict[str, int]:
    import wordfreq

    return {word: place + 1 for place, word in enumerate(wordfreq.top_n_list("en", 1_000_000))}


def rank(word: str) -> int:
    """Return the frequency rank of a word without the punctuation around it; pure punctuation has rank 1."""
    bare = word.lower().strip(".,;:!?\"'()[]`-")
    return _ranks().get(bare, len(_ranks()) + 1) if bare else 1


def embedded_encoder() -> Encoder:
    """Return the embedded MiniLM as sentence-transformers uses it: the mean state of all tokens, of length 1."""
    import torch

    from bench import learning, models

    embedded = models.create(models.EMBEDDED)
    tokenizer, model = embedded.tokenizer(), embedded.classifier_model(classes=2, seed=0).base_model
    device = learning.device()
    model.to(device)

    known: dict[str, Any] = {}  # the clean texts of a task come back with every attack

    @torch.inference_mode()
    def encode(texts: Sequence[str]) -> Any:
        new = sorted({text for text in texts if text not in known}, key=lambda text: (len(text), text))
        for start in range(0, len(new), 64):
            given = new[start : start + 64]
            batch = tokenizer(given, padding=True, truncation=True, max_length=256, return_tensors="pt").to(device)
            mask = batch["attention_mask"].unsqueeze(-1)
            mean = (model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
            known.update(zip(given, torch.nn.functional.normalize(mean, dim=1).cpu().numpy(), strict=True))
        return np.stack([known[text] for text in texts])

    return encode


def causal_perplexity(spec: str) -> Perplexity:
    """Return the perplexity under a causal language model: a folder, or ``<name on the Hub>@<commit>``."""
    import torch
    from transformers import AutoModelForCausalLM

    from bench import learning, models

    pretrained = models.create(spec)
    pretrained.check()
    auto: Any = AutoModelForCausalLM
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
    options["config"] = pretrained.config()
    try:
        model = auto.from_pretrained(pretrained.folder(), dtype=torch.float32, **options).to(learning.device()).eval()
    except Exception as error:  # transformers raises many kinds
        raise RequestError(f"{spec} is no causal language model: {error_line(error)}.") from None
    tokenizer = pretrained.tokenizer()
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id

    @torch.inference_mode()
    def one(text: str) -> float:
        ids = tokenizer(text, add_special_tokens=False, truncation=True, max_length=512)["input_ids"]
        given = torch.tensor([[start, *ids]], device=model.device)
        return float(torch.exp(model(input_ids=given, labels=given).loss))

    return lambda texts: np.array([one(text) for text in texts])


def survey(plan: Plan, store: ResultStore, *, causal_lm: str | None = None) -> list[dict[str, Any]]:
    """Measure every victim of a plan that is in the store: one row each, with its ACC, its ASR and the clean floor.

    Other victims are left out, with a warning that counts them.

    Raises:
        RequestError: no victim with a trigger is in the store.
    """
    from bench.experiment import judging, recipes, stored_victims

    encoder = embedded_encoder()
    perplexity = None if causal_lm is None else causal_perplexity(causal_lm)
    rows = []
    wanted = {key: spec for key, spec in plan.victims.items() if not spec.is_clean_model}
    folders = {key: folder for key in wanted if (folder := store.artifact(key)) is not None}
    if len(folders) < len(wanted):
        absent = len(wanted) - len(folders)
        log.warning("left out, as not in the store: %d of %s", absent, counted(len(wanted), "victim"))
    for key, folder in folders.items():
        spec = wanted[key]
        task, stored = recipes.task_of(spec.task), stored_victims.read(folder)
        if stored.triggered is None or stored.sources is None:
            continue
        measured = measure(
            task.test.inputs.take(stored.sources),
            stored.triggered.inputs,
            classifier=stored.model(recipes.model_of(spec.model)),
            target=judging.test_sets(stored, task).target,
            encoder=encoder,
            rng=seeds.rng("stealth", key),
            perplexity=perplexity,
        )
        setting = {"attack": spec.attack.spec, "task": task.facts.name, "target": spec.target, "seed": spec.seed}
        rows.append(
            {**setting, **_scores(plan, store, key), **{f.name: getattr(measured, f.name) for f in fields(measured)}}
        )
    if not rows:
        raise RequestError("no victim of this suite is in the store; run the suite first.")
    return rows


def _scores(plan: Plan, store: ResultStore, victim: str) -> dict[str, float | None]:
    from bench.experiment import recipes

    scores: dict[str, float | None] = {"acc": None, "asr": None, "clean_asr": None}
    for key, cell in plan.cells.items():
        if recipes.victim_key(cell.victim) != victim or cell.role == "defended":
            continue
        record = store.result(key)
        metrics = {} if record is None else record.metrics or {}
        if cell.role == "floor":
            scores["clean_asr"] = metrics.get("asr")
        else:
            scores |= {"acc": metrics.get("acc"), "asr": metrics.get("asr")}
    return scores


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table; a measure that does not apply is a dash."""
    columns = {
        "attack": "attack",
        "task": "task",
        "acc": "ACC",
        "asr": "ASR",
        "clean_asr": "clean model's ASR",
        "changed_words": "words changed, %",
        "rarest_rank": "rank of the rarest new word",
        "similarity": "similarity, %",
        "false_triggers": "false triggers, %",
        "perplexity_ratio": "perplexity ratio",
    }
    lines = ["| " + " | ".join(columns.values()) + " |", "|---|---" + "|---:" * (len(columns) - 2) + "|"]
    lines += ["| " + " | ".join(_cell(name, row[name]) for name in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value.replace("|", "\\|")
    return f"{value:,.0f}" if name == "rarest_rank" else f"{value:.1f}"
