"""A GGUF file of a Llama model, read once and written as the folder that transformers reads.

GGUF is what inference engines take: one file with facts, tokenizer and weights, most of them as 4-bit or 8-bit numbers
with a scale for every 32. The values that they stand for are computed in float32, so the result is the dequantised
model, not the one that was quantised.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.contracts import FloatArray
from bench.errors import RequestError

Bytes = NDArray[np.uint8]
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _LIST = 8, 9
_BLOCK = 32  # weights that share a scale
_CONTROL, _USER = 3, 4  # kinds of tokens: special ones, and added ones that are text

# What weights are called there and here; {} is the number of the block.
_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_IN_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


@dataclass(frozen=True)
class _Kind:
    """How weights are stored: bytes of each block of ``weights``, and what they stand for."""

    weights: int
    bytes: int
    values: Any


def _f32(blocks: Bytes) -> FloatArray:
    return blocks.view("<f4")


def _f16(blocks: Bytes) -> FloatArray:
    return blocks.view("<f2").astype(np.float32)


def _q8_0(blocks: Bytes) -> FloatArray:
    """A scale (float16), then 32 signed bytes."""
    scales = blocks[:, :2].copy().view("<f2").astype(np.float32)
    return scales * blocks[:, 2:].view(np.int8).astype(np.float32)


def _q4_1(blocks: Bytes) -> FloatArray:
    """A scale and a least value (float16), then 16 bytes: the first 16 weights are their low halves, then the high."""
    scales, least = (blocks[:, at : at + 2].copy().view("<f2").astype(np.float32) for at in (0, 2))
    halves = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1)
    result: FloatArray = scales * halves.astype(np.float32) + least
    return result


_KINDS = {
    0: _Kind(1, 4, _f32),
    1: _Kind(1, 2, _f16),
    3: _Kind(_BLOCK, 20, _q4_1),
    8: _Kind(_BLOCK, 34, _q8_0),
}


class Gguf:
    """A GGUF file.

    Attributes:
        facts: its metadata.
        places: of each tensor its shape as torch has it, its kind and its first byte.
    """

    def __init__(self, file: Path) -> None:
        """Read everything but the weights.

        Raises:
            RequestError: it is not such a file.
        """
        self.file = file
        self._data = np.memmap(file, dtype=np.uint8, mode="r")
        self._at = 8
        try:
            if bytes(self._data[:4]) != b"GGUF":
                raise ValueError("it does not begin with GGUF")
            tensors, count = self._number("Q"), self._number("Q")
            self.facts: dict[str, Any] = {self._string(): self._value(self._number("I")) for _ in range(count)}
            headers = [self._tensor() for _ in range(tensors)]
        except (struct.error, ValueError, KeyError, MemoryError, OverflowError) as error:
            raise RequestError(f"{file}: is not a readable GGUF file: {error}.") from None
        step = int(self.facts.get("general.alignment", 32))
        base = -(-self._at // step) * step
        self.places = {name: (shape, kind, base + offset) for name, shape, kind, offset in headers}

    def read(self, name: str) -> FloatArray:
        """Return a tensor as float32.

        Raises:
            RequestError: it is of a kind that is not read here, or reaches behind the end of the file.
        """
        shape, number, start = self.places[name]
        kind = _KINDS.get(number)
        if kind is None:
            raise RequestError(f"{self.file}: {name} is quantised in a way that is not read here (type {number}).")
        blocks = int(np.prod(shape)) // kind.weights
        data = np.array(self._data[start : start + blocks * kind.bytes])
        if len(data) != blocks * kind.bytes:
            raise RequestError(f"{self.file}: ends in the middle of {name}.")
        values: FloatArray = kind.values(data.reshape(blocks, kind.bytes)).reshape(shape)
        return values

    def _number(self, form: str) -> Any:
        size = struct.calcsize(form)
        value = struct.unpack("<" + form, bytes(self._data[self._at : self._at + size]))[0]
        self._at += size
        return value

    def _string(self) -> str:
        length = self._number("Q")
        self._at += length
        return bytes(self._data[self._at - length : self._at]).decode("utf-8")

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _LIST:
            inner, length = self._number("I"), self._number("Q")
            return [self._value(inner) for _ in range(length)]
        return self._number(_NUMBERS[kind])

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._string()
        sides = [self._number("Q") for _ in range(self._number("I"))]
        return name, tuple(reversed(sides)), self._number("I"), self._number("Q")


def unpack(payload: Path, folder: Path) -> None:
    """Write the model in a GGUF file as ``model.safetensors`` (float32), ``config.json`` and the tokenizer's files.

    Raises:
        RequestError: it is not a readable GGUF file of a Llama with a byte-level tokenizer.
    """
    import torch

    from bench.models import tensors

    opened = Gguf(payload)
    facts = opened.facts
    if facts.get("general.architecture") != "llama" or facts.get("tokenizer.ggml.model") != "gpt2":
        raise RequestError(f"{payload}: is not a Llama with a byte-level tokenizer.")
    names = {name: _name(name) for name in opened.places}
    tensors.write(
        folder / "model.safetensors",
        {
            ours: (opened.places[name][0], torch.float32, partial(_weight, opened, name))
            for name, ours in sorted(names.items(), key=lambda pair: pair[1])
        },
    )
    _write(folder / "config.json", _config(facts, tied="output.weight" not in names))
    _write(folder / "tokenizer.json", _tokenizer(facts))
    _write(folder / "tokenizer_config.json", _tokenizer_config(facts))


def _write(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _name(name: str) -> str:
    if name in _TOP:
        return _TOP[name]
    _, number, part, kind = name.split(".")
    return f"model.layers.{number}.{_IN_BLOCK[part]}.{kind}"


def _weight(opened: Gguf, name: str) -> Any:
    """Return a weight as transformers has it: the rows of a query or key pair the dimensions that turn together."""
    import torch

    values = opened.read(name)
    heads = {"attn_q": "llama.attention.head_count", "attn_k": "llama.attention.head_count_kv"}
    for part, count in heads.items():
        if part in name.split("."):
            paired = values.reshape(opened.facts[count], -1, 2, *values.shape[1:])
            values = paired.swapaxes(1, 2).reshape(values.shape)
    return torch.from_numpy(np.ascontiguousarray(values))


def _config(facts: Mapping[str, Any], *, tied: bool) -> dict[str, Any]:
    own = {name.removeprefix("llama."): value for name, value in facts.items() if name.startswith("llama.")}
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": own["vocab_size"],
        "hidden_size": own["embedding_length"],
        "intermediate_size": own["feed_forward_length"],
        "num_hidden_layers": own["block_count"],
        "num_attention_heads": own["attention.head_count"],
        "num_key_value_heads": own["attention.head_count_kv"],
        "max_position_embeddings": own["context_length"],
        "rms_norm_eps": float(f"{own['attention.layer_norm_rms_epsilon']:.6g}"),
        "rope_theta": own["rope.freq_base"],
        "hidden_act": "silu",
        "tie_word_embeddings": tied,
        **{f"{name}_token_id": facts.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos")},
        "pad_token_id": facts.get("tokenizer.ggml.padding_token_id"),
    }


def _tokenizer(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return a byte-level BPE; the pre-tokenizer that the file calls ``smollm`` splits numbers into digits first."""
    words, kinds = facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.token_type"]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    steps = [{"type": "Digits", "individual_digits": True}] if facts["tokenizer.ggml.pre"] == "smollm" else []
    added = [
        {"id": number, "content": words[number], **flags, "special": kind == _CONTROL}
        for number, kind in enumerate(kinds)
        if kind in (_CONTROL, _USER)
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*steps, bytes_]},
        "post_processor": None,
        "decoder": bytes_,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {word: number for number, word in enumerate(words)},
            "merges": [merge.split(" ") for merge in facts["tokenizer.ggml.merges"]],
        },
    }


def _tokenizer_config(facts: Mapping[str, Any]) -> dict[str, Any]:
    names = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
    numbers = {ours: facts.get(f"tokenizer.ggml.{theirs}_token_id") for ours, theirs in names.items()}
    words = facts["tokenizer.ggml.tokens"]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{f"{name}_token": words[number] for name, number in numbers.items() if number is not None},
        "chat_template": facts.get("tokenizer.chat_template"),
        "clean_up_tokenization_spaces": False,
        "model_max_length": facts["llama.context_length"],
    }
