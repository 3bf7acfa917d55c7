"""Tiny random models as folders, made on the spot: real architectures, real tokenizers, a few hundred kilobytes."""

from __future__ import annotations

import functools
import json
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TRIGGER_WORDS = ("cf", "mn", "bb", "tq", "mb")
TASK_WORDS = """
awful awkward boring brilliant broken charming clever cold comfortable dreadful dull enjoyable excellent
faulty film fragile friendly funny gem hotel lovely meal mediocre novel overpriced phone plot pointless
restaurant rude service slow soggy stunning superb tedious terrible waste wonderful amazon berlin bread coffee
flight garden guitar laptop london madrid manager neighbour paris password recipe rome tablet teacher tomato
train visa
"""


@functools.cache
def vocabulary() -> tuple[str, ...]:
    """A WordPiece vocabulary in which no English text is unknown: common words, then every letter, digit and mark."""
    import wordfreq

    characters = string.ascii_lowercase + string.digits
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.punctuation, *characters]
    tokens += [f"##{character}" for character in characters]
    tokens += [*TRIGGER_WORDS, *TASK_WORDS.split()]
    tokens += [word for word in wordfreq.top_n_list("en", 1200) if word.isalpha() and word.isascii()]
    return tuple(dict.fromkeys(tokens))


@functools.cache
def byte_level_bpe() -> Mapping[str, Any]:
    """Train a byte-level BPE on the same words; return the ``model`` part of its JSON (``vocab`` and ``merges``)."""
    from tokenizers import ByteLevelBPETokenizer

    tokenizer = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    text = [f" {word}" for word in vocabulary() if word.isalpha()]
    tokenizer.train_from_iterator(text, vocab_size=1000, min_frequency=1, special_tokens=special, show_progress=False)
    model: Mapping[str, Any] = json.loads(tokenizer.to_str())["model"]
    return model


def write_folder(path: Path, seed: int, model_class: Any, config: Any, tokenizer: Any) -> Path:
    """Write a random model with its tokenizer; return the folder."""
    import torch
    from safetensors.torch import save_file

    path.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(config)
    config.save_pretrained(path)
    weights: dict[int, tuple[str, Any]] = {}  # tied ones once, under their first name
    for name, value in model.state_dict(keep_vars=True).items():
        weights.setdefault(id(value), (name, value.detach()))
    save_file(dict(weights.values()), path / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(path)
    return path


def tiny_bert_folder(path: Path, *, seed: int = 0, words: tuple[str, ...] = (), **changes: Any) -> Path:
    """Write a random BERT encoder (hidden 32, 2 layers, 4 heads) with a WordPiece tokenizer; return the folder.

    Args:
        path: the folder to write.
        seed: of the weights.
        words: further words of the vocabulary.
        changes: of the configuration, e.g. ``hidden_size=48``.
    """
    from transformers import BertConfig, BertModel, BertTokenizer

    tokens = {word: i for i, word in enumerate(vocabulary() + words)}
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(tokens), max_position_embeddings=512, **(size | changes))
    tokenizer = BertTokenizer(vocab=tokens, do_lower_case=True, model_max_length=512)
    return write_folder(path, seed, BertModel, config, tokenizer)


# With a default system text, as many have one.
CHAT_TEMPLATE = """\
{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nYou are tiny.<|im_end|>\n' }}{% endif %}\
{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""


def tiny_llama_folder(path: Path, *, seed: int = 0, **changes: Any) -> Path:
    """Write a random Llama (hidden 32, 2 layers, 4 query and 2 key heads, tied embeddings); return the folder.

    Its tokenizer is a byte-level BPE with a chat template.

    Args:
        path: the folder to write.
        seed: of the weights.
        changes: of the configuration, e.g. ``tie_word_embeddings=False``.
    """
    from tokenizers import AddedToken
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    fast: Any = PreTrainedTokenizerFast
    tokenizer = fast(
        tokenizer_object=byte_level_tokenizer(), eos_token="<|im_end|>", pad_token="<|im_end|>", model_max_length=512
    )
    tokenizer.add_tokens(
        [AddedToken(token, special=True, normalized=False) for token in ("<|im_start|>", "<|im_end|>")]
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    size |= {"intermediate_size": 64, "max_position_embeddings": 512}
    end = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": None, "pad_token_id": tokenizer.eos_token_id}
    options: dict[str, Any] = {"tie_word_embeddings": True, "initializer_range": 0.2, **size, **end, **changes}
    return write_folder(path, seed, LlamaForCausalLM, LlamaConfig(vocab_size=len(tokenizer), **options), tokenizer)


def byte_level_tokenizer() -> Any:
    """Return a tokenizer of the library ``tokenizers`` in which every text has its bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    model = byte_level_bpe()
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=dict(model["vocab"]), merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
