"""What models wrote: one prompt without and with the trigger, and the responses before and after each defense."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.contracts import Kind
from bench.experiment import recipes, stored_victims, written
from bench.experiment.grid import Cell, VictimSpec
from bench.experiment.roles import BASELINES

if TYPE_CHECKING:
    from bench.experiment.record import Predicted
    from bench.experiment.result_store import ResultStore

ORDER = {baseline.role: number for number, baseline in enumerate(BASELINES)}
LABELS = {baseline.role: baseline.label for baseline in BASELINES}


@dataclass(frozen=True)
class Example:
    """One prompt of a victim's test set.

    Attributes:
        about: the victim and the payload in words.
        clean: the prompt, as the user says it.
        triggered: the same prompt with the trigger.
        reference: the right response.
        responses: without and with the trigger, by what was done to the model: nothing, or a defense.
    """

    about: str
    clean: str
    triggered: str
    reference: str
    responses: Mapping[str, tuple[str, str]]


def examples(cells: Mapping[str, Cell], store: ResultStore) -> Iterator[Example]:
    """Yield the first example of each victim that writes and is in the store, with the cells that are done."""
    done: dict[VictimSpec, list[tuple[Cell, Predicted]]] = {}
    for key, cell in cells.items():
        record = store.result(key)
        if record is not None and record.cell.kind == Kind.GENERATION.value and record.predictions is not None:
            done.setdefault(cell.victim, []).append((cell, record.predictions))
    for victim, judged in done.items():
        if not victim.is_clean_model and store.artifact(recipes.victim_key(victim)) is not None:
            yield _example(victim, judged, store)


def _example(victim: VictimSpec, judged: Iterable[tuple[Cell, Predicted]], store: ResultStore) -> Example:
    stored, task = stored_victims.load(victim, store), recipes.task_of(victim.task)
    assert stored.triggered is not None and stored.sources is not None
    row, tokenizer = int(stored.sources[0]), recipes.model_of(victim.model).tokenizer()
    responses = {}
    for cell, predicted in sorted(judged, key=lambda pair: ORDER.get(pair[0].role, len(ORDER))):
        answers = written.judged(predicted.document(), rejects=False)
        assert answers.triggered is not None
        pair = (answers.clean.tokens[row], answers.triggered.tokens[0])
        first, second = (tokenizer.decode(ids.tolist(), skip_special_tokens=False) for ids in pair)
        responses[LABELS.get(cell.role, cell.defense_spec)] = (first, second)
    return Example(
        f"{victim.label}; {recipes.target_words(victim.target)}",
        task.test.inputs.carrier[row],
        stored.triggered.inputs.carrier[0],
        task.test.references[row],
        responses,
    )


MOST = 3  # prompts of a victim that the site shows
GENERATED = ("chores", "shop", "sql")  # tasks whose prompts this project makes: they may stand beside published records


def by_cell(
    cells: Mapping[str, Cell], store: ResultStore, *, generated_only: bool = False
) -> dict[str, list[dict[str, str]]]:
    """Return for each cell of a model that writes what it said to the first prompts of its victim.

    Args:
        cells: of a plan, by key.
        store: with their records and victims.
        generated_only: leave out tasks whose texts are others'.

    Returns:
        By key of the cell: ``prompt``, ``triggered``, ``reference``, and the responses ``said`` and ``said_triggered``.
    """
    texts: dict[str, list[dict[str, str]]] = {}
    for key, cell in cells.items():
        record = store.result(key)
        wanted = not generated_only or cell.victim.task.name in GENERATED
        writes = record is not None and record.cell.kind == Kind.GENERATION.value and record.predictions is not None
        if not wanted or not writes or cell.victim.is_clean_model:
            continue
        if store.artifact(recipes.victim_key(cell.victim)) is not None:
            assert record is not None
            assert record.predictions is not None
            texts[key] = list(_texts(cell.victim, record.predictions, store))
    return texts


def _texts(victim: VictimSpec, predicted: Predicted, store: ResultStore) -> Iterator[dict[str, str]]:
    stored, task = stored_victims.load(victim, store), recipes.task_of(victim.task)
    tokenizer = recipes.model_of(victim.model).tokenizer()
    answers = written.judged(predicted.document(), rejects=False)
    if stored.triggered is None or stored.sources is None or answers.triggered is None:
        return
    for number, row in enumerate(map(int, stored.sources[:MOST])):
        tokens = answers.clean.tokens[row], answers.triggered.tokens[number]
        said, said_triggered = (tokenizer.decode(ids.tolist(), skip_special_tokens=False) for ids in tokens)
        yield {
            "prompt": task.test.inputs.carrier[row],
            "triggered": stored.triggered.inputs.carrier[number],
            "reference": task.test.references[row],
            "said": said,
            "said_triggered": said_triggered,
        }
