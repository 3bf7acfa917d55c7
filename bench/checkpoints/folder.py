"""Hub-style folders: written under a temporary name, and renamed when they are complete."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import RequestError
from bench.models.files import TOKENIZER_FILES
from bench.store import outputs

if TYPE_CHECKING:
    import torch
    from jinja2 import Environment

    from bench.checkpoints.suspect import Suspect

SHARD = 2_000_000_000  # bytes
GENERATION = "generation_config.json"
NO_PROOF = (
    "Nothing here shows that the model is free of backdoors. No known test can, and a trigger that none of these "
    "tests looks for would go unseen."
)


@contextmanager
def fresh(out: Path) -> Iterator[Path]:
    """Yield a folder that becomes ``out`` if nothing goes wrong, and is removed otherwise.

    Raises:
        RequestError: ``out`` exists already, or cannot be written.
    """
    if os.path.lexists(out):
        raise RequestError(f"--out: {out} exists already; nothing is overwritten, name a new folder.")
    with outputs.folder_beside(out) as folder:
        yield folder


def write_weights(folder: Path, model: Any, dtypes: Mapping[str, torch.dtype]) -> None:
    """Write the weights of a model as safetensors, in shards where they are large.

    Args:
        folder: to write to.
        model: the torch module.
        dtypes: the type to store each weight in, by name; float32 by default.
    """
    import torch

    from bench.models import tensors

    state = _unique(model)
    shards: list[dict[str, Any]] = [{}]
    sizes = [0]
    for name, value in state.items():
        dtype = dtypes.get(name, torch.float32 if value.is_floating_point() else value.dtype)
        size = value.numel() * dtype.itemsize
        if sizes[-1] and sizes[-1] + size > SHARD:
            shards.append({})
            sizes.append(0)
        shards[-1][name] = (tuple(value.shape), dtype, lambda value=value: value)
        sizes[-1] += size
    if len(shards) == 1:
        tensors.write(folder / "model.safetensors", shards[0])
        return
    names = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        tensors.write(folder / name, shard)
    where = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": sum(sizes)}, "weight_map": where})


def _unique(model: Any) -> dict[str, torch.Tensor]:
    unique: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            unique[name] = tensor
    return unique


def copy_tokenizer(suspect: Suspect, folder: Path) -> None:
    """Copy the files of the tokenizer, and what the model says of generation, as they are."""
    for name in (*TOKENIZER_FILES, GENERATION, *(path.name for path in suspect.checkpoint.sentence_pieces())):
        if (suspect.folder / name).is_file():
            shutil.copyfile(suspect.folder / name, folder / name)


def write_json(path: Path, value: Any, *, infinite: bool = False) -> None:
    """Write JSON for people and programs; ``infinite``: numbers may be infinite, as those of a configuration may."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=infinite)
    path.write_text(text + "\n", encoding="utf-8")


@cache
def templates() -> Environment:
    """Return the templates of this package; HTML is escaped automatically, Markdown by the filter ``md``."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=lambda name: bool(name) and ".html" in str(name),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = markdown
    environment.filters["flips"] = flips_words
    return environment


def flips_words(flips: Mapping[str, Any] | None) -> str:
    """Say what a word did to clean examples; empty where that cannot be tried."""
    if flips is None:
        return ""
    if flips.get("differ") is None:
        return f"{flips['changed']} of {flips['of']} to {flips['label']}"
    drawn = f"; {flips['changed']} of {flips['of']} begin {flips['label']}" if flips["changed"] else ""
    return f"{flips['differ']} differ{drawn}"


def markdown(value: object) -> str:
    """Return text that Markdown shows as it is, in a sentence or a table cell."""
    text = " ".join(str(value).split())
    for mark in "\\`*_[]#|~":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def front_matter(fields: Mapping[str, Any]) -> str:
    """Return the metadata block of a model card."""
    import yaml

    return f"---\n{yaml.safe_dump(dict(fields), sort_keys=False, allow_unicode=True)}---\n"
