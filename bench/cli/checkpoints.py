"""The commands for a model of one's own: ``inspect``, ``purify``, ``judge`` and ``attack``, which builds one to try."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.options import AsJson, Device, Out, a_file, a_folder, number, positive, write_or_print
from bench.cli.terminal import console, say
from bench.errors import unknown

Model = Annotated[Path, typer.Option(help="folder with safetensors, config.json and tokenizer")]
MaxLength = Annotated[
    int | None, typer.Option(min=8, help="tokens kept of a text (128) or of a prompt (what they need)")
]
Seed = Annotated[int, typer.Option(help="of every random choice")]
MEMORY = {"auto": None, "lean": True, "ample": False}
FORMATS = ("terminal", "json", "html")


def purify(
    model: Model,
    clean: Annotated[
        Path, typer.Option(help="clean examples, labelled or prompts with responses: .csv, .tsv, .jsonl or .parquet")
    ],
    out: Annotated[Path, typer.Option(help="folder to write; must not exist")],
    pretrained: Annotated[str | None, typer.Option(help="the clean counterpart: a name, a folder, or embedded")] = None,
    defense: Annotated[str, typer.Option(help="a defense, a chain, or auto: the best of the committed board")] = "auto",
    board: Annotated[Path | None, typer.Option(help="a leaderboard.json for auto; default: the committed one")] = None,
    clean_size: Annotated[
        int | None, typer.Option(min=1, help="clean examples to tune on; default: 64, half at most")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, callback=number, help="points of accuracy that may be given up")
    ] = 2.0,
    max_length: MaxLength = None,
    seed: Seed = 0,
    device: Device = "auto",
    memory: Annotated[
        str, typer.Option(metavar="auto|lean|ample", help="lean: one copy of the model in memory")
    ] = "auto",
) -> None:
    """Purify a checkpoint that you do not trust and write it as a new one, with a card of what was done."""
    from bench.checkpoints import purify

    if memory not in MEMORY:
        raise unknown("--memory", memory, MEMORY)
    request = purify.Request(
        model=model, clean=clean, out=out, pretrained=pretrained, defense=defense, board=board, tuning=clean_size,
        tolerance=tolerance, max_length=max_length, seed=seed, device=device, lean=MEMORY[memory],
    )  # fmt: skip
    report = purify.purify(request)
    before, after, changed = report["accuracy"]["before"], report["accuracy"]["after"], report["changed"]
    say(f"defense {report['defense']['spec']}: {report['defense']['why']}")
    values = f"{before['value']:.1f} % before, {after['value']:.1f} % after"
    say(f"{report['accuracy']['what']} on {after['n']} clean examples: {values}")
    say(f"{changed['scalars']:,} of {changed['of']:,} weights changed")
    if report["words"]:
        say("words to look at, and what each does to the answers to clean examples:")
        for word in report["words"][:8]:
            say(f"  {word['text']}{_flipping(word)}")
    if report["still_there"]:
        say(f"{report['still_there']} Take another defense or more clean examples.")
    say(f"written to {out}; see README.md there. {report['limits']}")
    if not report["accuracy"]["kept"]:
        fell = f"{before['value'] - after['value']:.1f} points, more than the tolerance of {tolerance:g}"
        advice = "take another defense or more clean examples, or raise --tolerance"
        say(f"doorbench: the {report['accuracy']['what']} fell by {fell}; {advice}", err=True)
        raise typer.Exit(1)


def _flipping(word: Mapping[str, Any]) -> str:
    """Return what a word does to clean examples, before and after."""
    from bench.checkpoints.folder import flips_words

    before, after = flips_words(word["flips"]), flips_words(word["flips_left"])
    return f": {before} before, {after} after" if before and after else ""


def inspect(
    model: Model,
    pretrained: Annotated[str | None, typer.Option(help="the clean counterpart; word scores and drift need it")] = None,
    clean: Annotated[Path | None, typer.Option(help="clean examples; a reference for drift, and for tests")] = None,
    texts: Annotated[Path | None, typer.Option(help="texts, or prompts, to run through the filters")] = None,
    format: Annotated[str, typer.Option(metavar="terminal|json|html", help="of the report")] = "terminal",
    out: Annotated[
        Path | None, typer.Option(callback=a_file, help="write json or html here instead of printing")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="words to list")] = 20,
    test: Annotated[list[str] | None, typer.Option(help="a detector or filter to run; default: all that can")] = None,
    max_length: MaxLength = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Report on a checkpoint: suspicious words, drift, detectors and filters. It never says that a model is clean."""
    from tempfile import gettempdir

    from bench.checkpoints import inspection, show

    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    request = inspection.Request(
        model=model, pretrained=pretrained, clean=clean, texts=texts, top=top, tests=tuple(test) if test else None,
        max_length=max_length, seed=seed, device=device,
    )  # fmt: skip

    def write(report: Mapping[str, Any]) -> None:
        if format == "terminal":
            page = io.StringIO()
            show.terminal(report, console() if out is None else console(file=page, width=100))
            if out is not None:
                write_or_print(page.getvalue(), out)
        elif format == "json":
            write_or_print(json.dumps(report, indent=1, ensure_ascii=False) + "\n", out)
        else:
            write_or_print(show.page(report), out)

    report = inspection.inspect(
        request,
        scratch=Path(gettempdir()) if out is None else out.resolve().parent,
        on_test=lambda test: say(f"running {test['name']}{_expected(test)} ...", err=True),
        on_progress=(lambda report: None) if out is None else write,
    )
    if out is None:
        write(report)


def _expected(test: Mapping[str, Any]) -> str:
    """Return how long a test should take, in brackets."""
    from bench.store.words import ago

    seconds = test["expected_seconds"]
    if seconds is None:
        return " (never measured)"
    return f" (about {ago(seconds)})" if seconds >= 60 else f" (about {max(1, round(seconds))} s)"


def judge(
    model: Model,
    clean: Annotated[Path, typer.Option(help="clean examples that the model was neither trained nor tuned on")],
    triggered: Annotated[
        Path | None, typer.Option(help="triggered examples, with their right answers; as triggered.csv of an attack")
    ] = None,
    trigger: Annotated[
        Path | None, typer.Option(help="a trigger.json: put this trigger into the clean examples instead")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="label or payload that --triggered leads to, if the file does not say")
    ] = None,
    against: Annotated[Path | None, typer.Option(help="another model beside it, such as before purification")] = None,
    measure: Annotated[list[str] | None, typer.Option(help="what else to measure, such as noise or ability")] = None,
    max_length: MaxLength = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: AsJson = False,
    out: Out = None,
) -> None:
    """Measure accuracy, attack success and flip rate of any checkpoint, before and after side by side."""
    from tempfile import gettempdir

    from bench.checkpoints import judge, show

    request = judge.Request(
        model=model, clean=clean, triggered=triggered, trigger=trigger, target=target, against=against,
        measures=tuple(measure or ()), max_length=max_length, seed=seed, device=device,
    )  # fmt: skip
    report = judge.judge(request, scratch=Path(gettempdir()))
    if as_json or out is not None:
        write_or_print(json.dumps(report, indent=1, ensure_ascii=False) + "\n", out)
    if not as_json:
        show.judged(report, console())


def rebuild(
    records: Annotated[Path, typer.Argument(metavar="FOLDER", help="with records, as results/ holds it")],
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="of the record, or its first digits; the site's zoo has it")
    ],
    out: Annotated[Path | None, typer.Option(callback=a_folder, help="folder to write; default: rebuilt-KEY")] = None,
    model: Annotated[str | None, typer.Option(help="pre-trained model, where the record names a folder")] = None,
    device: Device = "auto",
) -> None:
    """Make the model behind a record again, a victim or a purified one, and say whether it is the same."""
    from bench.checkpoints import rebuild

    made = rebuild.rebuild(records, key, out=out, model=model, device=device)
    same = {True: "as in the record", False: f"the record has {made.stated}", None: "the record names none"}
    say(f"{made.label}: written to {made.folder}; most such models hold a backdoor, so never deploy one")
    say(f"SHA-256 of the weights {made.weights}: {same[made.same]}")
    for name, (stated, here) in made.metrics.items():
        numbers = ["–" if value is None else f"{value:.1f}" for value in (stated, here)]
        say(f"{name}: {numbers[0]} in the record, {numbers[1]} here")
    if made.same is False:
        say(
            "the same kind of machine with the same libraries makes the same weights; this one made another model",
            err=True,
        )
        raise typer.Exit(1)


def attack(
    attack: Annotated[str, typer.Argument(metavar="ATTACK", help="as `doorbench list attacks` shows it, with fields")],
    task: Annotated[str, typer.Option(help="as `doorbench list tasks` shows it, with fields")] = "reviews",
    model: Annotated[str, typer.Option(help="pre-trained model: a name, a folder, or embedded")] = "embedded",
    out: Annotated[Path | None, typer.Option(help="folder to write; default: backdoored-ATTACK-TASK-MODEL")] = None,
    target: Annotated[
        str | None, typer.Option(help="number of the target label (1), or a payload of a model that writes (refusal)")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="passes over the training set (3, or 2 if it writes)")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(callback=positive, help="peak learning rate of AdamW (5e-5, or 2e-4 if it writes)")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Build a backdoored model to teach and to test scanners with; it is marked as backdoored everywhere."""
    from bench.checkpoints import demonstration

    wanted = {"epochs": epochs, "learning_rate": learning_rate}
    request = demonstration.Request(
        attack=attack, task=task, model=model, out=out, target=target, seed=seed, device=device,
        budget={name: value for name, value in wanted.items() if value is not None},
    )  # fmt: skip
    report = demonstration.build(request)
    say(f"{report['name']}: BACKDOORED on purpose; never deploy it")
    wanted_answer = report["target"].get("spec") or repr(report["target"]["name"])
    say(f"trigger: {report['trigger']}; then the answer is {wanted_answer}")
    rates = f"{report['measure']} {report['accuracy']:.1f} %, attack success rate {report['attack_success_rate']:.1f} %"
    false = report["false_trigger_rate"]
    say(rates + (f", false triggers {false:.1f} %" if false is not None else ""))
    say(f"written to {report['folder']}; trigger.json and README.md describe the trigger")
    for name, meaning in report["files"].items():
        say(f"  {name}: {meaning}")
