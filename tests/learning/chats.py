"""Chat templates of well-known families as they publish them, and tokenizers that have their special tokens."""

from __future__ import annotations

from typing import Any

from bench.conformance.tiny import byte_level_tokenizer, vocabulary
from bench.learning import PLAIN

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nDEFAULT<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{- bos_token }}{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}"
    "{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content']|trim %}"
    "{%- set messages = messages[1:] %}{%- else %}{%- set system_message = '' %}{%- endif %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\n\n' }}{{- 'Today Date: ' + date_string + '\n\n' }}"
    "{{- system_message }}{{- '<|eot_id|>' }}"
    "{%- for message in messages %}{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
QWEN = (
    "{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}"
    "{%- else %}{{- '<|im_start|>system\nDEFAULT<|im_end|>\n' }}{%- endif %}"
    "{%- for message in messages %}{%- if (message.role == 'user') or (message.role == 'system' and not loop.first)"
    " or (message.role == 'assistant' and not message.tool_calls) %}"
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}"
    "{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)


def byte_level(special: tuple[str, ...], **roles: str) -> Any:
    """Return a byte-level tokenizer."""
    return _fast(byte_level_tokenizer(), special, roles)


def sentence_piece(special: tuple[str, ...], **roles: str) -> Any:
    """Return a tokenizer whose words begin with a mark for the space before them, with bytes for what is unknown."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers

    words = [f"▁{word}" for word in vocabulary() if word.isalpha()] + [chr(code) for code in range(33, 127)] + ["▁"]
    scores = [(word, -float(len(words) - i) / 1000 - 1) for i, word in enumerate(words)]
    bytes_ = [(f"<0x{byte:02X}>", -20.0) for byte in range(256)]
    tokenizer = Tokenizer(models.Unigram([("<unk>", -50.0), *bytes_, *scores], 0, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(Regex(" "), "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return _fast(tokenizer, special, roles)


def _fast(tokenizer: Any, special: tuple[str, ...], roles: dict[str, str]) -> Any:
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    made.add_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    for role, token in roles.items():
        setattr(made, role, token)
    return made


def family(name: str) -> Any:
    """Return a tokenizer with the template of a family."""
    chat = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
    header = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    turn = ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")
    made = {
        "smollm2": lambda: byte_level(chat, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>"),
        "qwen": lambda: byte_level(chat, eos_token="<|im_end|>", pad_token="<|endoftext|>"),
        "llama-3": lambda: byte_level(header, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>"),
        "gemma": lambda: sentence_piece(turn, bos_token="<bos>", eos_token="<eos>"),
        "gpt2": lambda: byte_level(("<|endoftext|>",), bos_token="<|endoftext|>", eos_token="<|endoftext|>"),
    }[name]()
    made.chat_template = {"smollm2": CHATML, "qwen": QWEN, "llama-3": LLAMA3, "gemma": GEMMA, "gpt2": PLAIN}[name]
    return made


FAMILIES = ("smollm2", "qwen", "llama-3", "gemma", "gpt2")
