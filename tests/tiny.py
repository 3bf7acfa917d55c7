"""Tiny random models as folders, made on the spot: real architectures and real tokenizers, a few hundred kilobytes."""

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


def _write(path: Path, seed: int, model_class: Any, config: Any, tokenizer: Any) -> Path:
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
    return _write(path, seed, BertModel, config, tokenizer)


def tiny_roberta_folder(path: Path, *, seed: int = 0, **changes: Any) -> Path:
    """Write a random RoBERTa encoder (hidden 32, 2 layers, 4 heads) with a byte-level BPE; return the folder."""
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

    model = byte_level_bpe()
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]]
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    special = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "type_vocab_size": 1}
    config = RobertaConfig(vocab_size=len(model["vocab"]), max_position_embeddings=514, **special, **(size | changes))
    tokenizer = RobertaTokenizer(vocab=dict(model["vocab"]), merges=merges, model_max_length=512)
    return _write(path, seed, RobertaModel, config, tokenizer)
