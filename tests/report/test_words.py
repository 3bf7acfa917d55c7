from __future__ import annotations

from dataclasses import replace

from bench.report.ranking.results import Results
from bench.report.ranking.words import sentences
from bench.report.rows.mixtures import mixtures
from bench.report.rows.row import Row
from bench.report.tables import cells as tables
from bench.results import publish
from bench.suites.suite import Gate
from tests.report.synthetic import changed, make_rows

LINES = {"fine-tuning": (0.2, 99.0), "fine-mixing": (1.4, 8.0), "mixing": (6.0, 60.0)}


def rows(**options: object) -> list[Row]:
    options = {
        "tasks": ("reviews",),
        "attacks": ("clean", "badword"),
        "defenses": ("none", *LINES),
        "outcome": lambda t, a, d, s: (87.4 - LINES[d][0], LINES[d][1]),
        **options,
    }
    return make_rows(**options)  # type: ignore[arg-type]


def test_a_board_in_words_has_the_numbers_of_its_table() -> None:
    ((heading, lines),) = sentences(rows())
    assert heading == "Fine-tuned model received, 64 labels"
    text = "\n".join(lines)
    assert "Without a defense the flip rate is 99" in text and "3 seeds each" in lines[0]
    best = next(sentence for sentence in lines if sentence.startswith("Highest DER: fine-mixing, "))
    assert "at 1.5 points of ACC lost" in best and "no other of the 3 reaches its rank" in best
    assert any(sentence.startswith("fine-tuning leaves a flip rate of 9") for sentence in lines)


def test_it_is_said_what_is_not_there_or_did_not_work() -> None:
    some = changed(rows(), lambda r: r.defense == "mixing", record=None)
    assert any("cells of" in sentence and "not there yet" in sentence for sentence in sentences(some)[0][1])
    weak = rows(victim=lambda t, a, s: (87.0, 40.0))
    lines = sentences(weak)[0][1]
    assert lines[0].startswith("No attack has implanted") and "Did not implant: badword on reviews." in lines
    idle = rows(outcome=lambda t, a, d, s: (87.0, 99.0))
    assert "No defense reaches a DER of 52.5; doing nothing has 50." in sentences(idle)[0][1]


def on(row: Row, **environment: str) -> Row:
    assert row.record is not None
    return replace(row, record=row.record.model_copy(update={"environment": {**row.record.environment, **environment}}))


def test_mixed_columns_are_refused_and_every_table_says_so() -> None:
    plain = rows()
    assert mixtures(plain) == []
    mixed = [on(row, device="cuda") if row.defense == "mixing" and row.seed == 1 else row for row in plain]
    assert [one.partition(" mixes ")[0] for one in mixtures(mixed)] == [
        "clean on reviews (embedded)", "badword on reviews (embedded)"
    ]  # fmt: skip
    assert "device cpu (14), cuda (1)" in mixtures(mixed)[1]
    assert any(sentence.startswith("MIXED: badword on reviews") for sentence in tables.build(Results(mixed)).footer)
    assert "**badword on reviews (embedded) mixes device" in publish.results(mixed, title="invented", gate=Gate())


def test_results_are_written_from_the_records_alone() -> None:
    text = publish.results(rows(), title="invented", gate=Gate())
    assert text.startswith("# invented\n") and "## Claims of the paper" in text and "* Highest DER: fine-mixing" in text
    assert text == publish.results(rows(), title="invented", gate=Gate())
