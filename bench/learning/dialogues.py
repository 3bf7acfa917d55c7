"""Chat templates: a dialogue as the token ids of its prompt and, exactly apart, those of its response.

A template is the model's own, rendered by the tokenizer. The default system text that many templates put in front is
taken out, because it costs tokens in every example and some contain the date of today; a task that wants a system text
gives one. Training, generation and scoring all read the same ids. The template is among the files of a tokenizer whose
hash is in every key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench.contracts.dialogues import Dialogue, Dialogues
from bench.contracts.examples import Inputs, IntArray
from bench.errors import RequestError
from bench.learning.tokens import Encoded, Ids, whole

# For models without a template of their own, such as GPT-2. The tokenizer's end token closes a response.
PLAIN = (
    "{% for message in messages %}{% if message.role == 'assistant' %}Answer: {{ message.content }}{{ eos_token }}\n"
    "{% elif message.role == 'user' %}Question: {{ message.content }}\n"
    "{% else %}{{ message.content }}\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}Answer: {% endif %}"
)
# Constant arguments: a template must not depend on the day, nor have the model think aloud before it answers.
_OPTIONS = {"date_string": "26 Jul 2024", "enable_thinking": False, "tokenize": False}
_SYSTEM, _PROMPT, _RESPONSE = "Sa", "Pb", "Rc"  # of the probe that reads the parts off a template


class Template:
    """The chat template of a model.

    Attributes:
        tokenizer: a fast tokenizer.
        end: id of the token that closes a response: the one that the template puts there if it puts one, else the
            tokenizer's end token.
        stops: ids at which generation stops: ``end`` and the tokenizer's end token.
    """

    def __init__(self, tokenizer: Any, *, given: str | None = None, name: str = "") -> None:
        """Read the template and check that responses can be told from prompts.

        Args:
            tokenizer: a fast tokenizer.
            given: a template in Jinja, for a model that has none of its own; the model's own otherwise.
            name: of the model, for error messages.

        Raises:
            RequestError: there is no template, it cannot be rendered, or the tokenizer has no end token.
        """
        self.tokenizer, self.name = tokenizer, name or str(getattr(tokenizer, "name_or_path", "")) or "model"
        source = given or getattr(tokenizer, "chat_template", None)
        if not source:
            raise self._bad(
                "it has no chat template, and none is given; put one into its folder as chat_template.jinja"
            )
        if isinstance(source, dict):
            source = source.get("default") or next(iter(source.values()))
        self.source: str = source
        self._systems = self._render([("system", _SYSTEM), ("user", _PROMPT)], quiet=True) is not None
        self._begin, self._header = self._default_header()
        self.end = self._end()
        ends = {self.end, tokenizer.eos_token_id} - {None}
        self.stops: tuple[int, ...] = tuple(sorted(ends))

    def text(self, dialogue: Dialogue) -> str:
        """Return the prompt as the model sees it, up to where its response begins.

        A template that takes no system text gets it in front of the prompt, with an empty line between.
        """
        turns, system = [("user", dialogue.prompt)], dialogue.system
        if system and self._systems:
            turns.insert(0, ("system", system))
        elif system:
            turns = [("user", f"{system}\n\n{dialogue.prompt}")]
        rendered = self._asked(turns)
        return rendered if system and self._systems else self._without_header(rendered)

    def encode(self, dialogue: Dialogue) -> tuple[Ids, Ids]:
        """Return int32 ids of the prompt and of the response, whose last one is ``end``; nothing is cut."""
        prompt, response = self._ids([self.text(dialogue), dialogue.response])
        return prompt, np.append(response, np.int32(self.end))

    def prompts(self, inputs: Inputs, room: int) -> list[Ids]:
        """Return int32 ids of n prompts, each of at most ``room`` tokens.

        Of one that is too long, the end of what the user says is cut, never the template around it.

        Raises:
            RequestError: the template and the system text alone need more room.
        """
        rows = list(Dialogues(inputs, ("",) * len(inputs)))
        encoded = self._ids([self.text(row) for row in rows])
        return [ids if len(ids) <= room else self._cut(row, room) for row, ids in zip(rows, encoded, strict=True)]

    def reach(self, inputs: Inputs, room: int) -> IntArray:
        """Return int64 [n]: how many leading characters of what the user says stay in prompts of ``room`` tokens."""
        rows = list(Dialogues(inputs, ("",) * len(inputs)))
        lengths = [len(ids) for ids in self._ids([self.text(row) for row in rows])]
        stay = [
            len(row.prompt) if length <= room else self._kept(row, room)[1]
            for row, length in zip(rows, lengths, strict=True)
        ]
        return np.array(stay, dtype=np.int64)

    def responses(self, texts: Sequence[str], room: int | None = None) -> list[Ids]:
        """Return int32 ids of n responses with ``end`` behind, cut to ``room``: what is cut does not end."""
        end = np.int32(self.end)
        return [np.append(ids, end)[:room] for ids in self._ids(texts)]

    def words(self, ids: Ids) -> str:
        """Return the text of a response, without the token that closes it."""
        kept = [int(token) for token in ids if int(token) not in self.stops]
        text: str = self.tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def _ids(self, texts: Sequence[str]) -> list[Ids]:
        if not texts:
            return []
        encoded = self.tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)
        return [np.array(ids, dtype=np.int32) for ids in encoded["input_ids"]]

    def _cut(self, dialogue: Dialogue, room: int) -> Ids:
        """Return the ids of a prompt that is too long, without the last tokens of what the user says."""
        return self._kept(dialogue, room)[0]

    def _kept(self, dialogue: Dialogue, room: int) -> tuple[Ids, int]:
        """Return the ids of a prompt that is too long, and how many characters of what the user says are in them."""
        text = self.text(dialogue)
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids = np.array(encoded["input_ids"], dtype=np.int32)
        first, stop = self._said(text, dialogue)
        frame = int(sum(start >= stop for start, _ in encoded["offset_mapping"]))
        inside = len(ids) - frame
        head = int(sum(end <= first for _, end in encoded["offset_mapping"][:inside]))
        if head + frame >= room:
            raise self._bad(
                f"its chat template and the system text need {head + frame} tokens, which leaves none of {room} for a "
                "prompt; give the task a longer context"
            )
        blank = len(dialogue.prompt) - len(dialogue.prompt.lstrip())  # in front, which a template may leave out
        stay = blank + max(0, whole(encoded["offset_mapping"], room - frame) - first)
        return np.concatenate([ids[: room - frame], ids[inside:]]), stay

    def _said(self, text: str, dialogue: Dialogue) -> tuple[int, int]:
        """Return where what the user says begins and ends in a prompt, also where the template rewrites it.

        Raises:
            RequestError: it is rewritten, and what stands around it is not the same as around another prompt.
        """
        prompt = dialogue.prompt.strip()
        first = text.rfind(prompt)
        if first >= 0:
            return first, first + len(prompt)
        before, _, behind = self.text(replace(dialogue, prompt=_PROMPT)).rpartition(_PROMPT)
        if not (text.startswith(before) and text.endswith(behind) and len(before) + len(behind) <= len(text)):
            raise self._bad(
                "its chat template rewrites a prompt that is too long, so that it cannot be cut; give the task a "
                "longer context, or let the template put in what the user says as it is"
            )
        return len(before), len(text) - len(behind)

    def _asked(self, turns: Sequence[tuple[str, str]]) -> str:
        return self._render(turns, add_generation_prompt=True) or ""

    def _render(self, turns: Sequence[tuple[str, str]], *, quiet: bool = False, **options: Any) -> str | None:
        messages = [{"role": role, "content": content} for role, content in turns]
        try:
            text: str = self.tokenizer.apply_chat_template(messages, chat_template=self.source, **_OPTIONS, **options)
        except Exception as error:  # whatever a template raises
            if quiet:
                return None
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise self._bad(f"its chat template cannot be rendered: {reason}") from None
        return text

    def _default_header(self) -> tuple[str, str]:
        """Return the token that every text begins with, where there is one, and the default system text behind it.

        That is what stands in front of a first prompt but not of a second one.
        """
        first = self._asked([("user", _PROMPT)])
        both = self._asked([("user", _PROMPT), ("assistant", _RESPONSE), ("user", _PROMPT)])
        closed = self._render([("user", _PROMPT), ("assistant", _RESPONSE)]) or ""
        behind = closed.rpartition(_RESPONSE)[2]
        opening = both.rpartition(_RESPONSE)[2].removeprefix(behind).partition(_PROMPT)[0]
        header, begin = first.partition(_PROMPT)[0], self.tokenizer.bos_token or ""
        if not header.endswith(opening):
            return "", ""
        header = header.removesuffix(opening)
        if not header.startswith(begin) or opening.startswith(begin):  # where each turn begins with it, so do all texts
            begin = ""
        return begin, header.removeprefix(begin)

    def _without_header(self, rendered: str) -> str:
        return self._begin + rendered.removeprefix(self._begin).removeprefix(self._header)

    def _end(self) -> int:
        asked = self._asked([("user", _PROMPT)])
        closed = self._render([("user", _PROMPT), ("assistant", _RESPONSE)]) or ""
        if not closed.startswith(asked.rstrip()) or _RESPONSE not in closed:
            raise self._bad("its chat template shows a response otherwise than where it asks for one")
        behind = closed.rpartition(_RESPONSE)[2]
        first = int(self._ids([behind])[0][0]) if behind else None
        special = {number for number, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        end: int | None = first if first in special else self.tokenizer.eos_token_id
        if end is not None:
            return end
        raise self._bad("its tokenizer has no end token, and its chat template puts none behind a response")

    def _bad(self, what: str) -> RequestError:
        return RequestError(f"model {self.name!r}: {what}.")


@dataclass(frozen=True)
class EncodedDialogues:
    """Token ids of n dialogues, one after the other.

    Attributes:
        tokens: prompt and response of each, as one sequence.
        prompts: int64 [n]: tokens of each prompt; the rest of a sequence is its response.
    """

    tokens: Encoded
    prompts: IntArray

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def responses(self) -> IntArray:
        """int64 [n]: tokens of each response."""
        return self.tokens.lengths - self.prompts


def encode(template: Template, dialogues: Dialogues, *, max_prompt: int, max_response: int) -> EncodedDialogues:
    """Return the ids of dialogues, of which prompts and responses are cut to their rooms."""
    prompts = template.prompts(dialogues.inputs, max_prompt)
    return join(prompts, template.responses(dialogues.responses, max_response))


def join(prompts: Sequence[Ids], responses: Sequence[Ids]) -> EncodedDialogues:
    """Return prompts with their responses as sequences."""
    pieces = [part for pair in zip(prompts, responses, strict=True) for part in pair]
    asked = np.array([len(ids) for ids in prompts], dtype=np.int64)
    answered = np.array([len(ids) for ids in responses], dtype=np.int64)
    ids = np.concatenate([np.zeros(0, dtype=np.int32), *pieces])
    return EncodedDialogues(Encoded(ids, np.append(np.int64(0), np.cumsum(asked + answered)), None), asked)
