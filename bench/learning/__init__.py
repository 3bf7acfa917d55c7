"""The fast core: tokenise once, batch by length, train, predict, mix.

Names load on first use, so that plugins can be imported and described without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.learning.architectures import position_bias as position_bias
    from bench.learning.batches import by_length as by_length
    from bench.learning.batches import shuffled as shuffled
    from bench.learning.classifier import Classifier as Classifier
    from bench.learning.dialogues import PLAIN as PLAIN
    from bench.learning.dialogues import Template as Template
    from bench.learning.generator import Generator as Generator
    from bench.learning.hardware import device as device
    from bench.learning.hardware import precision as precision
    from bench.learning.loop import minimise as minimise
    from bench.learning.loop import schedule as schedule
    from bench.learning.loop import seeded as seeded
    from bench.learning.mixing import mix as mix
    from bench.learning.mixing import mix_ as mix_
    from bench.learning.mixing import mix_into as mix_into
    from bench.learning.parts import blocks as blocks
    from bench.learning.parts import feed_forward_layers as feed_forward_layers
    from bench.learning.parts import head_modules as head_modules
    from bench.learning.parts import mean_activations as mean_activations
    from bench.learning.parts import reinitialise_head as reinitialise_head
    from bench.learning.passes import block_states as block_states
    from bench.learning.passes import entering_states as entering_states
    from bench.learning.passes import first_token_last_block as first_token_last_block
    from bench.learning.passes import gold as gold
    from bench.learning.passes import logits as logits
    from bench.learning.passes import loss as loss
    from bench.learning.passes import read_states as read_states
    from bench.learning.passes import states as states
    from bench.learning.tokens import Encoded as Encoded
    from bench.learning.tokens import encode as encode
    from bench.learning.training import train as train
    from bench.learning.unpadded import Edit as Edit
    from bench.learning.window import PromptWindow as PromptWindow
    from bench.learning.window import TokenWindow as TokenWindow

_HOMES = {
    "Classifier": "classifier",
    "Edit": "unpadded",
    "Encoded": "tokens",
    "Generator": "generator",
    "PLAIN": "dialogues",
    "PromptWindow": "window",
    "Template": "dialogues",
    "TokenWindow": "window",
    "block_states": "passes",
    "blocks": "parts",
    "by_length": "batches",
    "entering_states": "passes",
    "gold": "passes",
    "loss": "passes",
    "device": "hardware",
    "encode": "tokens",
    "feed_forward_layers": "parts",
    "first_token_last_block": "passes",
    "head_modules": "parts",
    "logits": "passes",
    "minimise": "loop",
    "mean_activations": "parts",
    "mix": "mixing",
    "mix_": "mixing",
    "mix_into": "mixing",
    "position_bias": "architectures",
    "precision": "hardware",
    "read_states": "passes",
    "reinitialise_head": "parts",
    "schedule": "loop",
    "seeded": "loop",
    "shuffled": "batches",
    "states": "passes",
    "train": "training",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
