"""Keep one copy of a model in memory, and the other copies that a defense makes on disk.

A defense clones the victim for every candidate, and AdamW holds two more numbers and a gradient for every weight: five
times the model's size. Here clones share the memory of one model and the state of the optimiser is read and written
parameter by parameter, so that the peak is one model, its largest tensors, and the activations of a batch.
"""

from __future__ import annotations

import copy
import ctypes
import itertools
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import nn
from torch.optim.adamw import adamw

from bench.learning import Classifier, Generator
from bench.learning.language_model import LanguageModel
from bench.models import tensors

_MMAP_THRESHOLD, _ARENA_MAX = -3, -8  # M_MMAP_THRESHOLD and M_ARENA_MAX of malloc.h
CHUNK = 1 << 20  # scalars of a tensor that the optimiser handles at once


@dataclass
class Pager:
    """Keeps the weights of one copy in memory and those of all others in a folder.

    Attributes:
        folder: for the waiting copies and the optimiser's state.
    """

    folder: Path
    _resident: weakref.ref[Lean] | None = None
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        return_freed_memory()

    @property
    def resident(self) -> Lean | None:
        """The copy that is in memory, or None; a copy that nobody uses any more counts as none."""
        return None if self._resident is None else self._resident()

    @resident.setter
    def resident(self, model: Lean | None) -> None:
        self._resident = None if model is None else weakref.ref(model)

    def file(self, kind: str) -> Path:
        """Return an unused path in the folder."""
        return self.folder / f"{kind}-{next(self._numbers)}"

    def bring(self, wanted: Lean) -> None:
        """Make one copy the resident one."""
        if self.resident is not wanted:
            self.put_away()
            wanted.load_weights()
            self.resident = wanted

    def put_away(self) -> None:
        """Write the resident copy to disk and free its memory."""
        if self.resident is not None:
            self.resident.store_weights()
            self.resident = None
        return_freed_memory()


class Lean(LanguageModel):
    """A model that shares the memory of one model with its clones. Not a kind of model by itself.

    Asking for ``model`` brings its weights into memory and sends those of every other copy to disk. A module kept from
    an earlier ``model`` has empty parameters by then, so that using it is an error and never a wrong number.
    """

    def __init__(self, *parts: Any, pager: Pager, **options: Any) -> None:
        self._pager = pager
        self._file: Path | None = None
        super().__init__(*parts, **options)

    @property
    def model(self) -> Any:
        """The torch module, with its weights in memory."""
        self._pager.bring(self)
        return self._module

    @model.setter
    def model(self, module: Any) -> None:
        self._module = module
        if self._file is None and self._pager.resident is None:
            self._pager.resident = self

    def clone(self) -> Self:
        """Return an independent copy, on disk until it is used."""
        if self._pager.resident is self:
            self._pager.put_away()
        assert self._file is not None
        file = self._pager.file("copy")
        os.link(self._file, file)  # files are never changed in place
        other = type(self).__new__(type(self))
        other.__dict__.update({**self.__dict__, "_file": file, "_module": copy.deepcopy(self._module)})
        return other

    def store_weights(self) -> None:
        """Write the parameters to disk and leave empty ones behind."""
        fresh = self._pager.file("copy")
        named = dict(self._module.named_parameters())
        tensors.write(
            fresh, {name: (tuple(p.shape), p.dtype, partial(nn.Parameter.detach, p)) for name, p in named.items()}
        )
        if self._file is not None:
            self._file.unlink()
        self._file = fresh
        for parameter in named.values():
            parameter.data = torch.empty(0, dtype=parameter.dtype)
            parameter.grad = None

    def load_weights(self) -> None:
        """Read the parameters from disk."""
        assert self._file is not None
        stored = tensors.places(self._file)
        for name, parameter in self._module.named_parameters():
            parameter.data = stored[name].read().to(self.device)

    @contextmanager
    def optimiser(self, weights: list[nn.Parameter], **options: Any) -> Iterator[LeanAdamW]:
        """Yield AdamW with its state on disk."""
        made = LeanAdamW(weights, file=self._pager.file, **options)
        try:
            yield made
        finally:
            made.close()
            return_freed_memory()  # a training leaves many small pieces behind

    def __del__(self) -> None:
        if getattr(self, "_file", None) is not None and self._file is not None:
            self._file.unlink(missing_ok=True)


class LeanClassifier(Lean, Classifier):
    """A classifier that shares the memory of one model with its clones."""


class LeanGenerator(Lean, Generator):
    """A generator that shares the memory of one model with its clones, and keeps as little as it can of a batch."""

    frugal: ClassVar[bool] = True


class LeanAdamW:
    """AdamW with gradient clipping whose gradients and moments lie on disk.

    A gradient goes to disk as soon as the backward pass has computed it. It steps as
    :class:`torch.optim.AdamW` after :func:`torch.nn.utils.clip_grad_norm_`.

    Args:
        weights: parameters to train.
        file: returns a new path for a purpose.
        learning_rate: may be changed between steps through ``param_groups``.
        weight_decay: decoupled.
        max_grad_norm: gradients are clipped to this norm.
    """

    def __init__(
        self,
        weights: list[nn.Parameter],
        *,
        file: Callable[[str], Path],
        learning_rate: float,
        weight_decay: float,
        max_grad_norm: float,
    ) -> None:
        self.param_groups: list[dict[str, Any]] = [{"lr": learning_rate}]
        self.weight_decay, self.max_grad_norm = weight_decay, max_grad_norm
        self._weights = weights
        self._starts = [0, *itertools.accumulate(weight.numel() for weight in weights)]
        self._files = {kind: _Scalars(file(kind), self._starts[-1]) for kind in ("gradient", "first", "second")}
        self._norms: dict[int, torch.Tensor] = {}
        self._steps = 0
        self._hooks = [
            weight.register_post_accumulate_grad_hook(partial(self._take, index))  # type: ignore[no-untyped-call]
            for index, weight in enumerate(weights)
        ]

    def _take(self, index: int, weight: torch.Tensor) -> None:
        assert weight.grad is not None
        gradient = weight.grad.detach().float().cpu().contiguous().flatten()
        weight.grad = None
        for at in range(0, len(gradient), CHUNK) if index in self._norms else ():
            part = gradient[at : at + CHUNK]
            part += self._files["gradient"].read(self._starts[index] + at, len(part))
        self._files["gradient"].write(self._starts[index], gradient)
        self._norms[index] = torch.linalg.vector_norm(gradient)

    def step(self) -> None:
        """Update every weight that has a gradient."""
        self._steps += 1
        norms = [self._norms[index] for index in sorted(self._norms)]
        norm = torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.zeros(())
        scale = torch.clamp(self.max_grad_norm / (norm + 1e-6), max=1.0)
        for index in sorted(self._norms):
            self._update(index, scale)

    @torch.no_grad()
    def _update(self, index: int, scale: torch.Tensor) -> None:
        weight, start = self._weights[index].data.view(-1), self._starts[index]
        for at in range(0, len(weight), CHUNK):
            part = weight[at : at + CHUNK]
            state = {kind: file.read(start + at, len(part)).to(part.device) for kind, file in self._files.items()}
            adamw(
                [part],
                [state["gradient"].mul_(scale.to(part.device))],
                [state["first"]],
                [state["second"]],
                [],
                [torch.tensor(float(self._steps - 1), device=part.device)],
                fused=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=self.param_groups[0]["lr"],
                weight_decay=self.weight_decay,
                eps=1e-8,
                maximize=False,
            )
            self._files["first"].write(start + at, state["first"])
            self._files["second"].write(start + at, state["second"])

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        self._norms.clear()

    def close(self) -> None:
        """Remove the hooks and the files."""
        for hook in self._hooks:
            hook.remove()
        for file in self._files.values():
            file.close()


class _Scalars:
    """A flat file of float32, zero at first."""

    def __init__(self, path: Path, count: int) -> None:
        self._path = path
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.ftruncate(self._handle, 4 * count)

    def read(self, start: int, count: int) -> torch.Tensor:
        buffer = bytearray(4 * count)
        done = 0
        while done < len(buffer):
            done += os.preadv(self._handle, [memoryview(buffer)[done:]], 4 * start + done)
        return torch.frombuffer(buffer, dtype=torch.float32) if count else torch.empty(0)

    def write(self, start: int, values: torch.Tensor) -> None:
        data = values.detach().cpu().contiguous().view(torch.uint8).numpy().data
        done = 0
        while done < len(data):
            done += os.pwrite(self._handle, data[done:], 4 * start + done)

    def close(self) -> None:
        os.close(self._handle)
        self._path.unlink(missing_ok=True)


def return_freed_memory() -> None:
    """Make the C library return the memory of freed tensors to the system, now and in future (with glibc only).

    By default it keeps that memory for later, so that a process stays as large as it ever was.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt") and hasattr(library, "malloc_trim"):  # glibc
        library.mallopt(_MMAP_THRESHOLD, 1 << 17)  # a fixed number; otherwise it grows with what is freed
        library.mallopt(_ARENA_MAX, 1)  # what the backward pass frees in its thread is there for all
        library.malloc_trim(0)


def peak_bytes() -> int:
    """Return the largest resident memory that this process has had."""
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
