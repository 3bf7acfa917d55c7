"""What every plugin is: a frozen pydantic model whose fields are its hyper-parameters."""

from __future__ import annotations

import inspect
import re
from enum import StrEnum
from functools import cache, cached_property
from importlib import metadata
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from bench.contracts.kind import CLASSIFICATION, Kind
from bench.keys import canonical

FloatArray = NDArray[np.float32]


version = cache(metadata.version)  # reading it from the disk takes longer than all the rest of a recipe


_PLAIN = re.compile(r"[^\W\d]([\w .'!?;/*%&@-]*[\w.!?*%-])?")  # a text that needs no quotes in a suite
_WORDS = {"true", "false", "null", "yes", "no", "on", "off"}  # which some reader of YAML takes for something else


def spelt(value: Any) -> str:
    """Return a JSON value as suites write it on one line; a text that could be read as something else has quotes."""
    match value:
        case None:
            return "null"
        case str():
            plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS and value.isprintable()
            return value if plain else quoted(value)
        case list():
            return f"[{', '.join(map(_item, value))}]"
        case dict():
            return "{" + ", ".join(f"{_item(key)}: {_item(inner)}" for key, inner in value.items()) + "}"
    return str(value)


def _item(value: Any) -> str:
    """Return a value inside brackets, where every text has quotes."""
    if not isinstance(value, str):
        return spelt(value)
    return repr(value) if repr(value) == f"'{value}'" else quoted(value)


def quoted(text: str) -> str:
    """Return a text in double quotes, as one line of YAML."""
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if character.isprintable() else f"\\U{ord(character):08x}"


class Plugin(BaseModel):
    """A frozen pydantic model whose fields are its hyper-parameters.

    Class attributes of a concrete plugin:
        name: how suites call it.
        version: raised whenever its numbers can change.
        citation: authors, venue, arXiv id.
        libraries: distributions whose version changes its numbers, beyond torch, transformers, tokenizers and numpy.
        added_fields: fields that came after results were stored, with a default that changes nothing. At their
            default they are left out of keys, so that older results stay valid.
        kinds: the kinds of model that it works on.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, protected_namespaces=(), allow_inf_nan=False
    )

    name: ClassVar[str] = ""
    version: ClassVar[int] = 1
    citation: ClassVar[str] = ""
    libraries: ClassVar[tuple[str, ...]] = ()
    added_fields: ClassVar[tuple[str, ...]] = ()
    kinds: ClassVar[frozenset[Kind]] = CLASSIFICATION

    @cached_property
    def spec(self) -> str:
        """How a suite would spell this plugin: its name and every field that differs from its default.

        Read again, it is this plugin with the same values, whatever texts are among them.
        """
        dumped = self.parameters()
        fields = type(self).model_fields.items()
        changed = [(field.alias or name) for name, field in fields if getattr(self, name) != field.get_default()]
        return self.name + (f"({', '.join(f'{name}={spelt(dumped[name])}' for name in changed)})" if changed else "")

    def parameters(self) -> dict[str, Any]:
        """Every field as JSON values, under the names that suites use."""
        return self.model_dump(mode="json", by_alias=True)

    def recipe(self) -> dict[str, Any]:
        """What a cache key has to know of this plugin."""
        libraries = {name: version(name) for name in self.libraries}
        fields = type(self).model_fields
        parameters = self.parameters()
        for name in self.added_fields:
            if getattr(self, name) == fields[name].get_default():
                del parameters[fields[name].alias or name]
        return {"name": self.name, "version": self.version, "parameters": parameters, "libraries": libraries}

    @cached_property
    def canonical_recipe(self) -> str:
        """The recipe as canonical JSON, written once for all the keys that it is part of."""
        return canonical(self.recipe())

    @classmethod
    def summary(cls) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(cls) or "").partition("\n")[0]


class Precision(StrEnum):
    """Arithmetic of the forward and backward pass; weights and optimiser are always float32."""

    AUTO = "auto"
    BF16 = "bf16"
    FP32 = "fp32"


class Budget(BaseModel):
    """How a victim is trained. Part of every key."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(3, ge=0, description="passes over the training set")
    learning_rate: float = Field(5e-5, gt=0, description="peak learning rate of AdamW")
    batch_size: int = Field(32, ge=1, description="examples a step")
    warmup: float = Field(0.1, ge=0, le=1, description="share of the steps with rising learning rate")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    precision: Precision = Field(Precision.AUTO, description="auto takes bf16 where the device has it")
