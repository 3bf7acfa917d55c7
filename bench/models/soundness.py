"""What a folder with a model brings along, checked once, before anything of it is used; torch is not needed for it.

What is missing or odd here would otherwise be replaced by a default of a library, or fail after hours of training.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.models.files import Checkpoint, read_header, shell

_WHOLE = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
MOST_LAYERS = 1000  # more than any model has; with a million, transformers works for hours before it says no
_POSITIONS = ("max_position_embeddings", "n_positions")
# Architectures whose positions count from behind the padding index.
_FROM_BEHIND_PADDING = {
    "camembert", "data2vec-text", "esm", "ibert", "layoutlmv3", "lilt", "longformer", "luke", "markuplm", "mpnet",
    "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
}  # fmt: skip
_WRAPPERS = {"module.": "torch.nn.DataParallel", "_orig_mod.": "torch.compile"}
_EXPONENTS = {"F64": (np.uint64, 0x7FF0 << 48), "F32": (np.uint32, 0x7F80 << 16), "F16": (np.uint16, 0x7C00),
              "BF16": (np.uint16, 0x7F80)}  # fmt: skip
_CHUNK = 1 << 24  # bytes of weights that are looked at together


def check(checkpoint: Checkpoint, *, tokens: int | None = None) -> None:
    """Refuse a folder that is no sound model; each reason is one line that says what to do.

    Args:
        checkpoint: the folder.
        tokens: of an input, special tokens included, that the model has to take.

    Raises:
        RequestError: the configuration, the tokenizer or a weight is missing or cannot be used as it is.
    """
    _refuse_adapter(checkpoint)  # first: a folder with nothing but an adapter has no config.json
    checkpoint.refuse_code()
    settings = checkpoint.settings("config.json")
    _refuse_odd_weights(checkpoint)
    _refuse_odd_settings(checkpoint, settings)
    _refuse_odd_tokenizer(checkpoint)
    for file in checkpoint.weight_files():
        status = file.stat()
        if name := _not_finite(file, status.st_size, status.st_mtime_ns):
            raise checkpoint.bad(f"its weight {name!r} is not finite (NaN or infinite); it was damaged or diverged")
    most = positions(settings)
    if most is not None and tokens is not None and tokens > most:
        raise checkpoint.bad(f"it takes at most {most} tokens, the task wants {tokens}; say max_length={most}")


def positions(settings: Mapping[str, Any]) -> int | None:
    """Return how many tokens a model takes by its configuration, special ones included; None if it names no limit."""
    named = (settings.get(name) for name in _POSITIONS)
    most = next((number for number in named if isinstance(number, int) and number > 0), None)  # XLNet says -1
    if most is not None and settings.get("model_type") in _FROM_BEHIND_PADDING:
        padding = settings.get("pad_token_id")
        most -= 1 + (padding if isinstance(padding, int) and padding >= 0 else 1)
    return most


def _refuse_odd_weights(checkpoint: Checkpoint) -> None:
    """Refuse weights with the names of a wrapper, and whole numbers in the place of weights."""
    for file in checkpoint.weight_files():
        for name, (kind, *_) in read_header(file).items():
            for prefix, origin in _WRAPPERS.items():
                if name.startswith(prefix):
                    inside = f"save the model inside: model.{prefix}save_pretrained(...)"
                    raise checkpoint.bad(f"its weights are named as {origin} wraps them ({name!r}); {inside}")
            if kind not in _EXPONENTS and name.rpartition(".")[2] in ("weight", "bias"):
                whole = f"its weight {name!r} is of whole numbers ({kind}), as quantised ones are"
                raise checkpoint.bad(f"{whole}; give the model in float32 or bfloat16")


def _refuse_adapter(checkpoint: Checkpoint) -> None:
    file = checkpoint.folder / "adapter_config.json"
    if not file.is_file():
        return
    base = checkpoint.settings(file.name).get("base_model_name_or_path")
    fault = "it has a PEFT adapter (adapter_config.json), which changes what the model says; merge it first"
    writes = checkpoint.settings(file.name).get("task_type") == "CAUSAL_LM"
    kind = "AutoPeftModelForCausalLM" if writes else "AutoPeftModelForSequenceClassification"
    code = (
        f"from peft import {kind} as M; "
        f"M.from_pretrained({str(checkpoint.folder)!r}).merge_and_unload().save_pretrained('merged')"
    )
    tokenizer = f"copy the tokenizer of its base model {str(base)[:100]!r} beside it"
    raise checkpoint.bad(f"{fault} ({shell(code)}, then {tokenizer}), or remove the adapter's files")


def _refuse_odd_settings(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> None:
    def odd(field: str, what: str) -> Exception:
        return checkpoint.bad(f"config.json: {field} = {str(settings.get(field))[:60]!r} is {what}")

    if not isinstance(settings.get("model_type"), str):
        raise odd("model_type", "no name of an architecture")
    for field in _WHOLE:
        value = settings.get(field)
        unlimited = field == "max_position_embeddings" and value == -1
        if value is not None and not unlimited and not (type(value) is int and value > 0):
            raise odd(field, "no whole number above 0")
    for field in _LAYERS:
        if isinstance(settings.get(field), int) and settings[field] > MOST_LAYERS:
            raise odd(field, f"more than {MOST_LAYERS:,}")
    if str(settings.get("position_embedding_type")).startswith("relative"):
        raise odd("position_embedding_type", "not to be had: transformers 5 would drop the weights of these positions")
    named = settings.get("architectures")
    if not (named is None or isinstance(named, str | list)):
        raise odd("architectures", "no list of names")
    padding, size = settings.get("pad_token_id"), settings.get("vocab_size")
    if padding is not None and not (type(padding) is int and (size is None or padding < size)):
        raise odd("pad_token_id", "no number of a token; null stands for none")
    if "quantization_config" in settings:
        raise checkpoint.bad("its weights are quantised (quantization_config); give the model in float32 or bfloat16")


def _refuse_odd_tokenizer(checkpoint: Checkpoint) -> None:
    folder = checkpoint.folder
    whole = ("tokenizer.json", "vocab.txt")
    complete = any((folder / name).is_file() for name in whole) or any(checkpoint.sentence_pieces())
    if not complete and not all((folder / name).is_file() for name in ("vocab.json", "merges.txt")):
        raise checkpoint.bad(f"{folder} has no tokenizer; put its tokenizer.json there")
    settings = checkpoint.settings("tokenizer_config.json")
    longest = settings.get("model_max_length")
    if longest is not None and not (type(longest) in (int, float) and longest > 0):
        fault = f"tokenizer_config.json: model_max_length = {str(longest)[:60]!r} is no number of tokens"
        raise checkpoint.bad(fault)
    names = settings.get("model_input_names")
    if not (names is None or (isinstance(names, list) and all(isinstance(name, str) for name in names))):
        raise checkpoint.bad(f"tokenizer_config.json: model_input_names = {str(names)[:60]!r} is no list of names")


@functools.lru_cache(maxsize=256)
def _not_finite(file: Path, size: int, mtime_ns: int) -> str | None:
    """Return the name of a weight that is not finite; None if all are."""
    for name, (kind, _, start, end) in read_header(file).items():
        if kind not in _EXPONENTS or start == end:
            continue
        bits, exponent = _EXPONENTS[kind]
        weight = np.memmap(file, dtype=bits, mode="r", offset=start, shape=(end - start) // np.dtype(bits).itemsize)
        step = _CHUNK // np.dtype(bits).itemsize
        for at in range(0, len(weight), step):
            if ((weight[at : at + step] & bits(exponent)) == exponent).any():
                return name
    return None
