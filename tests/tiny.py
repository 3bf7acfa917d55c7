"""Tiny random models as folders, made on the spot: real architectures and real tokenizers, a few hundred kilobytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.conformance.tiny import TASK_WORDS as TASK_WORDS
from bench.conformance.tiny import TRIGGER_WORDS as TRIGGER_WORDS
from bench.conformance.tiny import byte_level_bpe, vocabulary, write_folder
from bench.conformance.tiny import tiny_bert_folder as tiny_bert_folder
from bench.conformance.tiny import tiny_llama_folder as tiny_llama_folder


def tiny_mpnet_folder(path: Path, *, seed: int = 0, **changes: Any) -> Path:
    """Write a random MPNet encoder (hidden 32, 2 layers, 4 heads) with a WordPiece tokenizer; return the folder."""
    from transformers import MPNetConfig, MPNetModel, MPNetTokenizer

    words = [word for word in vocabulary() if not word.startswith("[")]
    tokens = {word: i for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", "[UNK]", *words, "<mask>"])}
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = MPNetConfig(vocab_size=len(tokens), max_position_embeddings=514, **(size | changes))
    return write_folder(path, seed, MPNetModel, config, MPNetTokenizer(vocab=tokens, model_max_length=512))


def tiny_modernbert_folder(path: Path, *, seed: int = 0, **changes: Any) -> Path:
    """Write a random ModernBERT encoder (hidden 32, 3 layers, 4 heads; two of them see two tokens to each side)."""
    from transformers import BertTokenizerFast, ModernBertConfig, ModernBertModel

    words = vocabulary()
    tokens = {word: i for i, word in enumerate(words)}
    size = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
    size |= {"local_attention": 4, "max_position_embeddings": 512, "initializer_range": 0.2}
    special = {"pad_token_id": tokens["[PAD]"], "cls_token_id": tokens["[CLS]"], "sep_token_id": tokens["[SEP]"]}
    special |= {"bos_token_id": tokens["[CLS]"], "eos_token_id": tokens["[SEP]"]}
    config = ModernBertConfig(vocab_size=len(words), **special, **(size | changes))
    tokenizer = BertTokenizerFast(vocab=tokens, model_max_length=512)
    return write_folder(path, seed, ModernBertModel, config, tokenizer)


def tiny_roberta_folder(path: Path, *, seed: int = 0, **changes: Any) -> Path:
    """Write a random RoBERTa encoder (hidden 32, 2 layers, 4 heads) with a byte-level BPE; return the folder."""
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

    model = byte_level_bpe()
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]]
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    special = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "type_vocab_size": 1}
    config = RobertaConfig(vocab_size=len(model["vocab"]), max_position_embeddings=514, **special, **(size | changes))
    tokenizer = RobertaTokenizer(vocab=dict(model["vocab"]), merges=merges, model_max_length=512)
    return write_folder(path, seed, RobertaModel, config, tokenizer)


def tiny_gpt2_folder(path: Path, *, seed: int = 0, **changes: Any) -> Path:
    """Write a random GPT-2 (hidden 32, 2 layers, 4 heads, learned positions) without a chat template."""
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer

    model = byte_level_bpe()
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]]
    size = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "initializer_range": 0.2}
    size |= {"bos_token_id": 2, "eos_token_id": 2}
    config = GPT2Config(vocab_size=len(model["vocab"]), **(size | changes))
    special = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>"}
    tokenizer = GPT2Tokenizer(vocab=dict(model["vocab"]), merges=merges, model_max_length=256, **special)
    return write_folder(path, seed, GPT2LMHeadModel, config, tokenizer)


def tiny_mistral_folder(path: Path, *, seed: int = 0, **changes: Any) -> Path:
    """Write a random Mistral (hidden 32, 2 layers, untied) with sentence pieces and Gemma's chat template."""
    from transformers import MistralConfig, MistralForCausalLM

    from tests.learning.chats import family

    tokenizer = family("gemma")
    tokenizer.model_max_length = 512
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    size |= {"intermediate_size": 64, "max_position_embeddings": 512, "sliding_window": None}
    end = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": None}
    options: dict[str, Any] = {"initializer_range": 0.2, **size, **end, **changes}
    return write_folder(path, seed, MistralForCausalLM, MistralConfig(vocab_size=len(tokenizer), **options), tokenizer)
