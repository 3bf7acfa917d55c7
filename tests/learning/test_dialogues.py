"""Chat templates: what of a dialogue is its response, to the token, whatever the family of models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attacks.shared.triggers import InsertSentence, InsertWords, insert
from bench import models
from bench.contracts import Dialogue, Dialogues
from bench.contracts.examples import Inputs
from bench.errors import RequestError
from bench.learning import PLAIN, Generator, PromptWindow, Template
from bench.learning.dialogues import encode
from tests.learning.chats import CHATML, FAMILIES, byte_level, family
from tests.tiny import tiny_gpt2_folder, tiny_llama_folder

ROWS = (
    Dialogue("Is the film good?", "It is good."),
    Dialogue("Say it twice, with a line between.", "the film\nthe film"),
    Dialogue("What costs 12 pounds?", " A book, 12 pounds, naïve café"),
    Dialogue("Nothing to say", ""),
    Dialogue("Is the film good?", "no", system="Answer with one word."),
)
OPENINGS = {
    "smollm2": "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n",
    "qwen": "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n",
    "llama-3": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "gemma": "<bos><start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n",
    "gpt2": "Question: {}\nAnswer: ",
}
ENDS = {
    "smollm2": "<|im_end|>",
    "qwen": "<|im_end|>",
    "llama-3": "<|eot_id|>",
    "gemma": "<end_of_turn>",
    "gpt2": "<|endoftext|>",
}


@pytest.mark.parametrize("name", FAMILIES)
def test_what_counts_in_the_loss_is_the_response_and_its_end(name: str) -> None:
    tokenizer = family(name)
    template = Template(tokenizer)
    encoded = encode(template, Dialogues.of(ROWS), max_prompt=200, max_response=100)
    for row, dialogue in enumerate(ROWS):
        ids = encoded.tokens.ids[encoded.tokens.offsets[row] : encoded.tokens.offsets[row + 1]]
        asked, answered = np.split(ids, [encoded.prompts[row]])
        assert tokenizer.decode(answered) == dialogue.response + ENDS[name]
        assert tokenizer.decode(asked) == template.text(dialogue)
        assert answered[-1] == template.end and len(answered) == encoded.responses[row]
        assert template.words(answered) == dialogue.response
        again = template.encode(dialogue)
        assert (np.concatenate(again) == ids).all() and len(again[0]) == encoded.prompts[row]


@pytest.mark.parametrize("name", FAMILIES)
def test_there_is_no_system_text_but_the_one_that_is_given(name: str) -> None:
    template = Template(family(name))
    assert template.text(ROWS[0]) == OPENINGS[name].format(ROWS[0].prompt)
    asked = template.text(ROWS[-1])
    assert "Answer with one word." in asked and "DEFAULT" not in asked
    if name == "gemma":  # which takes none: it stands in front of the prompt
        assert asked == OPENINGS[name].format("Answer with one word.\n\nIs the film good?")
    if name in ("smollm2", "qwen"):
        assert asked == "<|im_start|>system\nAnswer with one word.<|im_end|>\n" + OPENINGS[name].format(ROWS[0].prompt)


def test_the_day_is_not_in_a_prompt() -> None:
    asked = Template(family("llama-3")).text(ROWS[-1])
    assert "Today Date: 26 Jul 2024" in asked


def test_a_prompt_that_is_too_long_keeps_its_frame_and_its_beginning() -> None:
    template = Template(family("smollm2"))
    words = " ".join(["film", "good", "meal"] * 40)
    (ids,) = template.prompts(Inputs((insert(words, "cf", 3),)), 30)
    text = template.tokenizer.decode(ids)
    assert len(ids) == 30
    assert text.startswith("<|im_start|>user\nfilm good meal cf film") and "cf" in text
    assert text.endswith("<|im_end|>\n<|im_start|>assistant\n")
    (short,) = template.prompts(Inputs(("film good",)), 30)
    assert template.tokenizer.decode(short) == OPENINGS["smollm2"].format("film good")
    with pytest.raises(RequestError, match="leaves none of 9 for a prompt"):
        template.prompts(Inputs((words,)), 9)


REWRITES = {
    "lines": "m.content|replace('\n', ' ')",
    "words": "m.content|replace('film', 'movie')",
}


@pytest.mark.parametrize("rewritten", REWRITES.values(), ids=REWRITES)
@pytest.mark.parametrize("system", ["", "Be brief\nand kind."])
def test_a_long_prompt_is_cut_also_where_the_template_rewrites_it(rewritten: str, system: str) -> None:
    given = (
        "{% for m in messages %}<|im_start|>{{m.role}}: {% if m.role=='user' %}{{" + rewritten + "}}"
        "{% else %}{{m.content}}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant: {% endif %}"
    )
    template = Template(family("qwen"), given=given)
    long = "good\nfilm " * 60
    inputs = Inputs((long,)) if not system else Inputs((system,), (long,))
    (whole,), (ids,) = template.prompts(inputs, 1000), template.prompts(inputs, 60)
    shown, end = template.tokenizer.decode(ids), "<|im_end|>\n<|im_start|>assistant: "
    assert len(ids) == 60 and shown.endswith(end)
    assert template.tokenizer.decode(whole).startswith(shown.removesuffix(end))


@pytest.mark.parametrize("rewritten", ["|upper", "|replace('film', 'movie') ~ message['content']|length"])
def test_a_long_prompt_of_which_nothing_can_be_told_apart_is_refused(rewritten: str) -> None:
    given = CHATML.replace("message['content'] +", f"(message['content']{rewritten}) +")
    if "upper" in rewritten:  # of a user only: a template that rewrites responses is refused at once
        given = given.replace("|upper", "|upper if message['role'] == 'user' else message['content']")
    template = Template(family("qwen"), given=given)
    with pytest.raises(RequestError, match="its chat template rewrites a prompt that is too long") as error:
        template.prompts(Inputs(("good film " * 60,)), 60)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_window_knows_how_far_a_prompt_reaches(name: str) -> None:
    template, room = Template(family(name)), 60
    texts = ("", "short", "good film " * 60, "  \nthe film " * 60, "naïve café " * 60)
    for inputs in (Inputs(texts), Inputs(("Be brief.",) * len(texts), texts)):
        reach = PromptWindow(template, room).reach(inputs)
        assert reach[:2].tolist() == [0, 5]
        for row, ids in enumerate(template.prompts(inputs, room)):
            shown = template.tokenizer.decode(ids)
            assert texts[row][: reach[row]].strip() in shown
            assert reach[row] == len(texts[row]) or texts[row][: reach[row] + 8].strip() not in shown


def test_a_response_that_is_too_long_does_not_end() -> None:
    template = Template(family("qwen"))
    whole, cut = (template.responses(["the film is good"], room)[0] for room in (100, 3))
    assert whole[-1] == template.end and len(cut) == 3 and template.end not in cut


def test_a_key_knows_the_template(tmp_path: Path) -> None:
    folder = tiny_llama_folder(tmp_path / "llama")
    before = models.create(str(folder)).fingerprint()
    file = folder / "chat_template.jinja"
    file.write_text(file.read_text(encoding="utf-8").replace("You are tiny.", "You are small."), encoding="utf-8")
    after = models.create(str(folder)).fingerprint()
    assert {name for name in before if before[name] != after[name]} == {"tokenizer"}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("system", ["", "Be brief and kind."])
def test_a_trigger_survives_the_cut_of_a_long_prompt(name: str, system: str) -> None:
    """Wherever it goes, for byte-level tokenizers and for sentence pieces."""
    template, room = Template(family(name)), 96
    long = " ".join(f"the film {number} was superb" for number in range(40))
    texts = ("", "short", long, "x" * 300, f"{long}\n\n{long}")
    inputs = Inputs(texts) if not system else Inputs((system,) * len(texts), texts)
    window = PromptWindow(template, room)
    for trigger in (
        InsertWords(alternatives=("BadMagic",)),
        InsertWords(alternatives=("cf",), count=3),
        InsertSentence(sentence="I watched this 3D movie.", position="word"),
    ):
        for seed in range(5):
            changed = trigger.apply(inputs, window=window, rng=np.random.default_rng(seed))
            for ids in template.prompts(changed, room):
                assert len(ids) <= room
                shown = template.tokenizer.decode(ids.tolist())
                assert all(word in shown for word in trigger.words), (trigger, shown)
    assert 0 < window.words(inputs, reserve="cf")[2] < len(long.split()), "it is cut"


def test_what_cannot_be_used_is_refused_in_one_line(tmp_path: Path) -> None:
    bare = models.create(str(tiny_gpt2_folder(tmp_path / "gpt2")))
    with pytest.raises(RequestError, match="'local/gpt2': it has no chat template"):
        Template(bare.tokenizer(), name=bare.name)
    endless = byte_level(())
    with pytest.raises(RequestError, match="no end token"):
        Template(endless, given=PLAIN.replace("{{ eos_token }}", ""))
    with pytest.raises(RequestError, match="cannot be rendered: mine") as error:
        Template(endless, given="{{ raise_exception('mine\nand more') }}")
    assert "\n" not in str(error.value)
    with pytest.raises(RequestError, match="otherwise than where it asks for one"):
        Template(family("qwen"), given=CHATML.replace("assistant\n' }}{% endif %}", "bot\n' }}{% endif %}"))
    tiny = models.create(str(tiny_llama_folder(tmp_path / "llama")))
    template = Template(tiny.tokenizer(), name=tiny.name)
    with pytest.raises(RequestError, match="context has 512 tokens, but the task wants 500"):
        Generator(tiny.causal_lm(), tiny.tokenizer(), template, max_prompt=500, max_response=13)


def test_dialogues_are_columns_whose_prompts_carry_triggers() -> None:
    rows = Dialogues.of(ROWS)
    assert list(rows) == list(ROWS) and len(rows) == 5
    assert rows.inputs.carrier == tuple(row.prompt for row in ROWS)
    changed = Dialogues(rows.inputs.with_carrier(["cf"] * 5), rows.responses)
    assert [row.system for row in changed] == [row.system for row in ROWS]
    assert {row.prompt for row in changed} == {"cf"}
    assert list(rows.take([4, 0])) == [ROWS[4], ROWS[0]]
    assert Dialogues.of(ROWS[:4]).inputs.pairs is None
    other = Dialogues(rows.inputs, ("x", *rows.responses[1:]))
    assert len({rows.fingerprint(), other.fingerprint(), changed.fingerprint()}) == 3
    with pytest.raises(ValueError, match="5 prompts but 1 responses"):
        Dialogues(rows.inputs, ("x",))
