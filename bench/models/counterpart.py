"""Whether a pre-trained model is the counterpart of a received one."""

from __future__ import annotations

from typing import Any

from bench.errors import RequestError
from bench.models.files import BUFFERS, is_pooler
from bench.models.pretrained import PretrainedModel


def check_counterpart(suspect: PretrainedModel | Any, pretrained: PretrainedModel, *, tokenizer: Any = None) -> None:
    """Refuse a fine-tuned model whose pre-trained counterpart does not match it.

    Args:
        suspect: the fine-tuned model: a located folder, or a transformers model.
        pretrained: what is said to be its counterpart.
        tokenizer: of the fine-tuned model; a located folder's own by default, otherwise not compared.

    Raises:
        RequestError: names the first weight of another shape, or the first token with another number.
    """
    located = isinstance(suspect, PretrainedModel)
    shapes = suspect.shapes() if located else _shapes_of(suspect)
    expected = pretrained.shapes()
    refused = f"{pretrained.name!r} is not the pre-trained counterpart of this model"
    for name in sorted(expected.keys() | shapes.keys()):
        if not is_pooler(name) and expected.get(name) != shapes.get(name):
            pair = f"{_shape(shapes.get(name))} in the model, {_shape(expected.get(name))} in the counterpart"
            raise RequestError(f"{refused}: {name!r} is {pair}.")
    if located and tokenizer is None:
        tokenizer = suspect.tokenizer()
    if tokenizer is None:
        return
    ours, theirs = tokenizer.get_vocab(), pretrained.tokenizer().get_vocab()
    different = [token for token in ours.keys() | theirs.keys() if ours.get(token) != theirs.get(token)]
    if different:
        first = min(different, key=lambda token: (ours.get(token, theirs.get(token)), token))
        pair = f"{ours.get(first, 'missing')} in the model, {theirs.get(first, 'missing')} in the counterpart"
        raise RequestError(f"{refused}: the tokenizers differ: the number of token {first!r} is {pair}.")


def _shapes_of(model: Any) -> dict[str, tuple[int, ...]]:
    state = getattr(model, model.base_model_prefix, model).state_dict()
    return {name: tuple(value.shape) for name, value in state.items() if name.rpartition(".")[2] not in BUFFERS}


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else f"of shape {list(shape)}"
