"""Threat models and the board that each leads to; what a defense needs, in words."""

from __future__ import annotations

import copy
import pickle
from itertools import product

import pytest

from bench.contracts import (
    Acts,
    Board,
    Judged,
    Knows,
    Needs,
    Received,
    ThreatModel,
    board_of,
    needs_in_short,
    needs_in_words,
    threat_of,
)
from bench.plugins.chain import chain
from bench.plugins.modified import modified


@pytest.mark.parametrize(
    ("attack", "defense", "threat", "board"),
    [
        ("badword", "fine-tuning", ThreatModel(Received.FINE_TUNED), Board.FINE_TUNED),
        ("badpre", "fine-tuning", ThreatModel(Received.PRE_TRAINED), Board.PRE_TRAINED),
        ("badword", "cube", ThreatModel(Received.DATA), Board.DATA),
        ("badpre", "onion", ThreatModel(Received.PRE_TRAINED, acts=Acts.AT_TEST_TIME), Board.FILTER),
        ("badword", "sande", ThreatModel(Received.FINE_TUNED, knows=Knows.TARGET), Board.TARGET_KNOWN),
        ("badpre", "sande+fine-tuning", ThreatModel(Received.PRE_TRAINED, knows=Knows.TARGET), Board.TARGET_KNOWN),
        ("badword", "osft", ThreatModel(Received.FINE_TUNED), Board.FINE_TUNED),
        ("badword", "weight-drift", ThreatModel(Received.FINE_TUNED, judged=Judged.MODEL), Board.DETECTION),
    ],
)
def test_three_answers_lead_to_a_board(attack: str, defense: str, threat: ThreatModel, board: Board) -> None:
    pair = modified(attack), chain(defense)
    assert (threat_of(*pair), board_of(*pair)) == (threat, board)


def test_a_victim_is_on_the_board_of_its_attack() -> None:
    assert board_of(modified("badword"), None) is Board.FINE_TUNED
    assert board_of(modified("badpre"), None) is Board.PRE_TRAINED


def test_every_threat_model_has_one_board_and_every_board_a_threat_model() -> None:
    every = [ThreatModel(*one) for one in product(Received, Acts, Judged, Knows)]
    assert {threat.board for threat in every} == set(Board)
    informed = {threat.board for threat in every if threat.knows is Knows.TARGET}
    assert informed == {Board.TARGET_KNOWN, Board.DETECTION}, "who knows the target competes with nobody else"


def test_what_records_state_can_be_read_back() -> None:
    stated = ("fine-tuned model received", "poisoned pre-trained model received", "target known",
              "poisoned data received", "test-time filter", "model detection")  # fmt: skip
    assert tuple(Board(name) for name in stated) == tuple(Board)
    for member in (*Board, *Needs):
        again = pickle.loads(pickle.dumps(member))
        assert again is member and copy.deepcopy(member) is member and f"{member}" == member.value
    assert {board.sentence[-1] for board in Board} == {"."} and all(board.heading[0].isupper() for board in Board)
    assert [board for board in Board if board.judges_models] == [Board.DETECTION]


def test_needs_are_told_in_the_order_of_tables() -> None:
    assert needs_in_words(("pretrained", "clean")) == "clean data, pre-trained weights"
    assert needs_in_words(()) == needs_in_short(()) == "only the model"
    assert needs_in_words(("clean", "crystal ball")) == "clean data, crystal ball"
    assert needs_in_short(("clean", "oracle")) == "oracle"
    assert needs_in_short(("clean", "pretrained")) == "clean data + pre-trained"
    assert needs_in_short(("pretrained",)) == "pre-trained weights"
    assert needs_in_short(("test_stream",)) == "test stream or plain text"
    assert needs_in_short(("clean", "other_models")) == "other models"
    assert needs_in_short(("a lawyer",)) == "a lawyer"
    for need in Needs:
        assert need.short and need.words and not need.guide.endswith(".")
