"""A report of ``doorbench inspect`` for people: on a terminal and as one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.checkpoints import folder
from bench.contracts import Kind
from bench.store.words import counted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WORDS = (
    "Words whose embeddings moved most for how often they occur (E-PUR). Rare trigger words end up here. Names and "
    "task words do so in honest models too, and triggers made of frequent words, style or syntax do not."
)
DRIFT = (
    "How far each part moved from the pre-trained weights. Attacks on single layers or on embeddings alone move one "
    "part much more than fine-tuning does. An attack that trains on poisoned data moves the parts as honest training "
    "does."
)
FLIPS = (
    "Flips: the word is put into clean examples at a random place; shown is how many other answers it turns to one "
    "label. A word that means nothing for the task and turns most of them is what a trigger looks like."
)
WRITTEN_FLIPS = (
    "Flips: the word is put into clean prompts at a random place; shown is how many responses differ then, and how "
    "many more begin the same way. A word that means nothing for the task and has most of them begin the same way is "
    "what a trigger looks like."
)
RESPONSES = "What the model writes for clean prompts that you gave, beside what you said is right."
EXAMPLES = "For the words that have most responses begin the same way, one prompt each."
TRIED = 5  # words whose example is shown
REFERENCE = (
    "The reference is the pre-trained model, fine-tuned here on the {examples} clean examples for {steps} steps. It "
    "saw far less data than the model, so compare shares, not distances."
)
WAITING = "The pre-trained model will be fine-tuned on the clean examples for comparison; that comes last."
NO_REFERENCE = (
    "There is no reference: give --clean and the pre-trained model is fine-tuned on it for comparison. "
    "Without one, a large number may be ordinary."
)
TESTS = (
    "Detectors look for a trigger or for odd behaviour; filters look at single inputs. Each finds the kinds of "
    "backdoor it was made for. A high score is a reason to look closer; a low one is not an all-clear."
)


def rows_of_drift(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the parts of the model; with a reference, each has the reference's share and the ratio of the two."""
    drift = report["drift"]
    shares = {part["name"]: part["share"] for part in (drift["reference"] or {"parts": []})["parts"]}
    rows = []
    for part in drift["parts"]:
        usual = shares.get(part["name"])
        rows.append({**part, "usual": usual, "ratio": part["share"] / usual if usual else None})
    return rows


def page(report: Mapping[str, Any]) -> str:
    """Return the report as one HTML page without external links; every text is escaped."""
    drift = None if report["drift"] is None else rows_of_drift(report)
    reference = "" if report["drift"] is None else reference_words(report)
    texts: dict[str, Any] = {
        "words": WORDS,
        "flips": flips_of(report),
        "drift": DRIFT,
        "tests": TESTS,
        "reference": reference,
    }
    texts |= {"responses": RESPONSES, "examples": EXAMPLES, "tried": tried(report)}
    return folder.templates().get_template("inspection.html.j2").render(report=report, drift=drift, texts=texts)


def tried(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the words that change most responses of a model that writes, with a prompt each."""
    words = [word for word in report["words"] or () if word["flips"] and word["flips"]["example"]]
    return sorted(words, key=lambda word: word["flips"]["changed"], reverse=True)[:TRIED]


def flips_of(report: Mapping[str, Any]) -> str:
    """Say what the flips of the listed words are, and what ordinary words do."""
    if report["clean"] is None:
        return "Give --clean to see which of them change the answers to clean examples."
    plain = report["ordinary_flips"]
    beside = "" if plain is None else f" Ordinary words ({', '.join(plain['words'])}) turn {plain['percent']:.0f} %."
    return (WRITTEN_FLIPS if report["model"]["kind"] == Kind.GENERATION else FLIPS) + beside


def reference_words(report: Mapping[str, Any]) -> str:
    """Say how the reference of drift was made."""
    reference = report["drift"]["reference"]
    if reference:
        return REFERENCE.format(**reference)
    return NO_REFERENCE if report["clean"] is None else WAITING


def terminal(report: Mapping[str, Any], console: Console) -> None:
    """Print the report."""
    from rich.markup import escape
    from rich.table import Table

    def table(*columns: str) -> Table:
        empty = Table(box=None, pad_edge=False, header_style="bold")
        for i, column in enumerate(columns):
            empty.add_column(column, justify="left" if i == 0 else "right")
        return empty

    model = report["model"]
    labels = f", labels {escape(', '.join(model['labels']))}" if model["labels"] else ", a model that writes"
    console.print(f"[bold]{escape(model['folder'])}[/bold]  {model['type']}{labels}")
    if report["mark"]:
        console.print(f"It is marked as backdoored on purpose: {escape(report['mark']['trigger'])}")
    if accuracy := report["accuracy"]:
        measured = "{n:.0f} clean examples: {value:.1f} % ({low:.1f} to {high:.1f})".format(**accuracy)
        console.print(f"{report['measure']} on {measured}")
    if report["responses"]:
        console.print("\n[bold]Responses[/bold]")
        console.print(_responses(report["responses"], {"before": "response"}))
    console.print("\n[bold]Words[/bold]")
    if report["words"] is None:
        console.print("not scored: give --pretrained")
    else:
        console.print(f"{WORDS} {escape(flips_of(report))}", highlight=False)
        shown = table("word", "score", "above the median (deviations)", "flips")
        for word in report["words"]:
            flips = escape(folder.flips_words(word["flips"]))
            shown.add_row(escape(word["text"]), f"{word['score']:.3f}", f"{word['distance']:.1f}", flips)
        console.print(shown if report["words"] else "no word embedding differs from the pre-trained one")
    console.print("\n[bold]Drift[/bold]")
    if report["drift"] is None:
        console.print("not measured: give --pretrained")
    else:
        console.print(f"{DRIFT} {reference_words(report)}")
        shown = table("part", "moved by", "share of all drift", "reference", "times the reference")
        for row in rows_of_drift(report):
            usual = ("", "") if row["ratio"] is None else (f"{row['usual']:.1f} %", f"{row['ratio']:.2f}")
            shown.add_row(row["name"], f"{row['relative']:.2f} %", f"{row['share']:.1f} %", *usual)
        console.print(shown)
    console.print("\n[bold]Tests[/bold]")
    console.print(TESTS if report["tests"] else "no detectors or filters are installed")
    for test in report["tests"]:
        result = test["why"] if test["score"] is None else f"suspicion {test['score']:.3g}"
        notes = "; ".join(f"{name}: {value}" for name, value in test["notes"].items())[:300]
        console.print(f"{escape(test['name'])} ({test['kind']}): {test['status']}. {escape(' '.join((result, notes)))}")
    console.print(f"\n[bold]What this cannot show.[/bold] {report['limits']}")


def judged(report: Mapping[str, Any], console: Console) -> None:
    """Print what ``doorbench judge`` found."""
    from rich.markup import escape
    from rich.table import Table

    examples = counted(report["clean"], "clean example")
    if report["trigger"]:
        examples += f", {counted(report['triggered'], 'triggered one')} ({escape(report['trigger'])})"
    console.print(examples)
    names = [report[side]["folder"] for side in ("against", "model") if report[side]]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("in %", *map(escape, names), *(["change"] if report["against"] else [])):
        table.add_column(column, justify="left" if column == "in %" else "right", overflow="fold")
    for row in report["metrics"]:
        sides = ("before", "after", "change") if report["against"] else ("after",)
        title = row["title"] if row["unit"] else f"{row['title']} (no percentage)"
        table.add_row(title, *(_with_interval(row[side], signed=side == "change") for side in sides))
    console.print(table)
    console.print("In brackets: the 95 % interval over examples.", style="dim")
    for row in report["metrics"]:
        console.print(f"{row['title']}: {row['meaning']}", style="dim")
    if report["responses"]:
        given = [side for side in ("against", "model") if report[side]]
        columns = {{"against": "before", "model": "after"}[side]: report[side]["folder"] for side in given}
        console.print(_responses(report["responses"], columns))
    console.print(report["limits"])


def _responses(rows: Sequence[Mapping[str, str]], columns: Mapping[str, str]) -> Table:
    """Return prompts with their right responses and what was written, side by side."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    names = {"prompt": "prompt", "reference": "right response", **columns}
    for name in names.values():
        table.add_column(escape(name), overflow="fold")
    for row in rows:
        table.add_row(*(escape(row[name]) for name in names))
    return table


def _with_interval(estimate: Mapping[str, float] | None, *, signed: bool) -> str:
    if estimate is None:
        return ""
    value, low, high = (None if end is None else f"{end:{'+' if signed else ''}.1f}" for end in estimate.values())
    return str(value) if low is None else f"{value} [{low}, {high}]"
