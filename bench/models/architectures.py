"""What transformers says of the classifier of an architecture."""

from __future__ import annotations

import inspect
from typing import Any

ALWAYS_THERE = ("eager", "sdpa")  # implementations of attention that need no other package


def without_foreign_attention(config: Any) -> Any:
    """Return a configuration that asks for no implementation of attention that may not be installed here.

    One that was saved on another machine may name FlashAttention, or a kernel that would be fetched from the Hub.
    """
    if getattr(config, "_attn_implementation", None) not in ALWAYS_THERE:
        config._attn_implementation = None  # transformers chooses
    return config


def attention_of(config: Any) -> str:
    """Return the fastest implementation of attention that transformers has for a classifier: ``sdpa`` or ``eager``."""
    return "sdpa" if getattr(_classifier_class(config), "_supports_sdpa", False) else "eager"


def tells_segments_apart(config: Any) -> bool:
    """Whether a classifier of this configuration takes segment numbers and knows more than one.

    GPT-2 takes them too, but as numbers of tokens. XLNet tells segments apart without a table of them.
    """
    forward = getattr(_classifier_class(config), "forward", None)
    takes = forward is not None and "token_type_ids" in inspect.signature(forward).parameters
    return takes and (config.model_type == "xlnet" or getattr(config, "type_vocab_size", 0) > 1)


def _classifier_class(config: Any) -> Any:
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    return MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING.get(type(config), None)
