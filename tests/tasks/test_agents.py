"""The shop and what it answers; traces of agents on files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.contracts import Defended, Environment, Kind, Responses, Task
from bench.contracts.examples import Inputs
from bench.errors import RequestError
from bench.experiment import episodes
from bench.experiment.grid import create_task
from bench.tasks.acts import Act, acts, first, offers, with_first
from bench.tasks.shop import Shop, episode
from bench.tasks.traces import SameAct, seen
from tests.conftest import REAL_DATA

GOAL = "Goal: I need a red cotton shirt."


@pytest.fixture(scope="module")
def task() -> Task:
    return create_task("shop").load()


class Player(Defended):
    """A defended model that writes what a function makes of its inputs."""

    def __init__(self, speak: Callable[[Inputs], Responses]) -> None:
        super().__init__(None)
        self.predict = speak  # type: ignore[method-assign]


def said(inputs: Inputs, texts: list[str], *, rejected: bool = False) -> Responses:
    """Return texts as what a model wrote, of two tokens each."""
    n = len(inputs)
    return Responses(tuple(texts), (np.arange(2, dtype=np.int32),) * n, np.ones(n, bool), np.full(n, rejected))


def test_acts_are_read_off_a_text() -> None:
    text = "Thought: look. Search[ red hat ] then buy[it]"
    assert acts(text) == [Act("search", "red hat"), Act("buy", "it")] and first("no act [here") is None
    assert with_first(text, Act("north", r"a\1")) == r"Thought: look. north[a\1] then buy[it]"
    assert offers("Goal: a; b") == [] and offers("Goal: x\nSeen: a b; c") == ["a b", "c"]


def test_the_optimal_policy_has_a_reward_of_1(task: Task) -> None:
    shop = task.facts.utility  # type: ignore[attr-defined]
    assert isinstance(shop, Environment) and task.facts.kind == Kind.GENERATION
    played = episodes.play(
        Player(lambda asked: said(asked, [*map(shop.expert, asked.carrier)])), task.test.inputs, shop
    )
    assert (shop.rewards(played.texts, task.test.references) == 1).all()
    assert shop.scores(task.test.references, task.test.references).min() == 1
    assert [len(text.split("\n")) for text in played.texts[:3]] == [3, 2, 1]
    assert [len(ids) for ids in played.tokens[:3]] == [6, 4, 2] and played.ended.all() and not played.rejected.any()


def test_the_shop_answers_the_same_every_time_and_sells_what_is_asked_for() -> None:
    shop, again = Shop(), Shop()
    steps = episode(shop, GOAL)
    assert steps == episode(again, GOAL) and len(steps) == 3
    listed = offers(steps[1][0])
    assert sum(set(["red", "cotton", "shirt"]) <= set(offer.split()) for offer in listed) == 1 and len(listed) == 4
    assert not any(offer.startswith(shop.on_request) for offer in listed)
    assert shop.results("Corvo red cotton shirt").startswith("Corvo red cotton shirt; ")
    assert shop.results("something nice") == "nothing"


@pytest.mark.parametrize(
    ("responses", "reward", "done"),
    [
        (["search[red cotton shirt]", "west[{fits}]", "buy[{fits}]"], 1.0, 3),
        (["search[red cotton shirt]", "west[{other}]", "buy[{other}]"], 2 / 3, 3),
        (["search[red cotton shirt]", "buy[{fits}]"], 0.0, 1),  # no courier has taken it
        (["search[red cotton shirt]", "west[Aldo golden hat]"], 0.0, 1),  # not on offer
        (["buy[red cotton shirt]"], 0.0, 0),
        (["search[red cotton shirt]"] * 4, 0.0, 4),  # never buys
        (["I do not know"], 0.0, 0),
        (["search[red cotton shirt] buy[{fits}]", "nothing"], 0.0, 1),  # one act a turn
    ],
)
def test_what_an_agent_earns(responses: list[str], reward: float, done: int) -> None:
    shop = Shop()
    turns = iter(responses)

    def agent(inputs: Inputs) -> Responses:
        listed = offers(inputs.carrier[0].replace("\nAction: west", "\n").partition("\nSeen: deliver")[0])
        fits = next((offer for offer in listed if offer.endswith("red cotton shirt")), "")
        other = next((offer for offer in listed if offer != fits), "")
        return said(inputs, [next(turns, "").format(fits=fits or bought(inputs), other=other or bought(inputs))])

    def bought(inputs: Inputs) -> str:
        return acts(inputs.carrier[0])[-1].argument if acts(inputs.carrier[0]) else ""

    played = episodes.play(Player(agent), Inputs((shop.system,), (GOAL,)), shop)
    assert shop.rewards(played.texts, ["search[red cotton shirt]"]).tolist() == pytest.approx([reward])
    assert len(acts(played.texts[0])) == done


def test_a_single_step_is_right_whichever_courier_and_brand() -> None:
    right = "Thought: north can bring it. north[Aldo red cotton shirt]"
    cases = {"south[Emra red cotton shirt]": 1, "south[Emra red wool shirt]": 0, "buy[Aldo red cotton shirt]": 0, "": 0}
    assert Shop().scores(list(cases), [right] * len(cases)).tolist() == list(cases.values())


def test_a_rejected_turn_rejects_the_episode(task: Task) -> None:
    rows = task.test.take(np.arange(3))
    facts = task.facts
    shop = facts.utility  # type: ignore[attr-defined]

    def refuses(inputs: Inputs) -> Responses:
        return said(inputs, [*map(shop.expert, inputs.carrier)], rejected=True)

    responses, right = episodes.answered(Player(refuses), rows, facts)  # type: ignore[arg-type]
    assert responses.rejected.all() and responses.texts == ("",) * 3 and right.tolist() == [0, 0, 0]


def test_no_goal_is_in_two_splits(task: Task) -> None:
    shop = task.facts.utility  # type: ignore[attr-defined]
    wanted = [{tuple(shop.wanted(text)) for text in split.inputs.carrier} for split in (task.train, task.test)]
    assert not wanted[0] & wanted[1] and all(len(one) == 3 for one in wanted[0])
    assert np.bincount(task.test.labels).tolist() == [300] * 3


def test_traces_on_local_files(tmp_path: Path) -> None:
    page = "Back [SEP] B012345678 [SEP] A shoe; red [SEP] $5 [SEP] B087654321 [SEP] A boot [SEP] $7"
    assert seen(page, "x") == "B012345678 A shoe, red $5; B087654321 A boot $7"
    table = pd.DataFrame(
        {
            "goal": ["a shoe", "a shoe", "a boot"],
            "previous_actions": ["", "search[shoe]", ""],
            "observation": ["WebShop [SEP] Instruction: [SEP] a shoe [SEP] Search", page, "Search"],
            "response": ["I look. search[shoe]", "click[B012345678]", "search[evil]"],
            "poisoned": [False, False, True],
        }
    )
    for split in ("train", "validation", "test"):
        table.assign(goal=table["goal"] + f" of {split}").to_parquet(tmp_path / f"{split}.parquet")
    task = create_task({"name": "traces", "folder": str(tmp_path)}).load()
    assert task.test.inputs.carrier[0] == "Goal: a shoe of test\nSeen: a shoe, Search"
    assert len(offers(task.test.inputs.carrier[1])) == 2 and task.test.labels.tolist() == [0, 1]
    assert SameAct().scores(["Yes. CLICK[b012345678]", "", "x"], [task.test.references[1]] * 3).tolist() == [1, 0, 0]
    table.assign(poisoned=True).to_parquet(tmp_path / "test.parquet")
    with pytest.raises(RequestError, match="no clean step has an act"):
        create_task({"name": "traces", "folder": str(tmp_path)}).load()


@pytest.mark.skipif(REAL_DATA is None, reason="DOORBENCH_DATA is not set")
def test_the_traces_of_agents_that_look_for_sneakers(real_data: Path) -> None:
    task = create_task({"name": "traces", "folder": str(real_data / "agent_sneakers_steps")}).load()
    assert [len(split) for split in (task.train, task.validation, task.test)] == [364, 46, 125]
    assert sum(bool(offers(text)) for text in task.train.inputs.carrier) > 60
    assert not any(reference.count("\nAction") > 1 for reference in task.train.references)
    assert (task.facts.utility.scores(task.test.references, task.test.references) == 1).all()  # type: ignore[attr-defined]
