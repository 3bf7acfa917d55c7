"""A tiny random BERT as a folder, made on the spot: real architecture, real tokenizer, a few hundred kilobytes."""

from __future__ import annotations

import functools
import string
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


def write_folder(path: Path, seed: int, model_class: Any, config: Any, tokenizer: Any) -> Path:
    """Write a random encoder with its tokenizer; return the folder."""
    import torch
    from safetensors.torch import save_file

    path.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(config)
    config.save_pretrained(path)
    save_file(model.state_dict(), path / "model.safetensors", metadata={"format": "pt"})
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
