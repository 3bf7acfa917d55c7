"""Mix the weights of a victim with pre-trained ones: exactly floor(reserve_ratio * d) of d scalars stay.

At random means: every scalar gets a random byte, and ties get a random key besides; those with the smallest
(byte, key) stay. So every subset of the right size is equally likely, the kept sets of one seed grow with the ratio,
and only the ties of one byte need keys. Tensors are worked on in pieces, in as many threads as torch uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from threading import Lock
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from bench.contracts.examples import IntArray

if TYPE_CHECKING:
    from bench.learning.classifier import Classifier

T = TypeVar("T")
R = TypeVar("R")
Tensors = Mapping[str, torch.Tensor]
By = Literal["random", "drift"]
Mask = NDArray[np.bool_]
PIECE = 1 << 20  # scalars
WHOLE_NUMBERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class Piece:
    """Some neighbouring scalars of one tensor.

    Attributes:
        own: the victim's scalars, one-dimensional.
        whole: call for the pre-trained tensor that these belong to, one-dimensional.
        mixed: where the result goes; may be ``own``.
        place: number of the tensor and of the first scalar in it.
    """

    own: torch.Tensor
    whole: Callable[[], torch.Tensor]
    mixed: torch.Tensor
    place: tuple[int, int]

    @property
    def other(self) -> torch.Tensor:
        """The pre-trained scalars."""
        return self.whole()[self.place[1] : self.place[1] + len(self.own)]

    def drift(self) -> NDArray[np.float32]:
        """How far each scalar moved."""
        moved: NDArray[np.float32] = (self.own.float() - self.other.float()).abs().cpu().numpy()
        return moved

    def mix(self, replaced: Mask) -> None:
        """Take the pre-trained scalars where the mask is true."""
        if self.own.device.type != "cpu":
            self.mixed.copy_(torch.where(torch.from_numpy(replaced).to(self.own.device), self.other, self.own))
            return
        whole = WHOLE_NUMBERS[self.own.element_size()]  # moving bits as whole numbers is exact, and fast
        own, other, mixed = (tensor.view(whole).numpy() for tensor in (self.own, self.other, self.mixed))
        difference = np.bitwise_xor(own, other)
        difference *= replaced
        np.bitwise_xor(own, difference, out=mixed)


def mix(
    victim: Tensors, pretrained: Tensors, *, reserve_ratio: float, seed: int, by: By = "random"
) -> dict[str, torch.Tensor]:
    """Return new tensors, for the names in both, with floor(reserve_ratio * d) of the victim's d scalars."""
    mixed = {name: torch.empty_like(victim[name]) for name in victim if name in pretrained}
    _mix(victim, pretrained, mixed, reserve_ratio, seed, by)
    return mixed


def mix_into(
    classifier: Classifier, pretrained: Tensors, *, reserve_ratio: float, seed: int, by: By = "random"
) -> None:
    """Mix the weights of a classifier in place; parameters without a pre-trained counterpart stay."""
    own = {name: p.data for name, p in classifier.model.named_parameters() if name in pretrained}
    mix_(own, pretrained, reserve_ratio=reserve_ratio, seed=seed, by=by)


def mix_(victim: Tensors, pretrained: Tensors, *, reserve_ratio: float, seed: int, by: By = "random") -> None:
    """Mix in place: floor(reserve_ratio * d) of the victim's d scalars stay, the rest become the pre-trained ones."""
    _mix(victim, pretrained, victim, reserve_ratio, seed, by)


def _mix(victim: Tensors, pretrained: Tensors, mixed: Tensors, ratio: float, seed: int, by: By) -> None:
    """Mix contiguous tensors into ``mixed``, for the names in it.

    Pre-trained tensors are asked for when their turn comes and the latest few are kept, so that they need not be in
    memory together.
    """
    pieces = []
    turn = _Turn(pretrained)
    for i, name in enumerate(mixed):
        own, result = (tensor.detach().view(-1) for tensor in (victim[name], mixed[name]))
        whole = partial(turn.flat, name, own)
        for at in range(0, len(own), PIECE):
            pieces.append(Piece(own[at : at + PIECE], whole, result[at : at + PIECE], (i, at)))
    kept = int(ratio * sum(len(piece.own) for piece in pieces))
    replaced = random_masks(pieces, kept, seed) if by == "random" else largest_drift(pieces, kept)
    _each(lambda number: pieces[number].mix(replaced(number)), range(len(pieces)))


class _Turn:
    """Hands out pre-trained tensors to the threads, each read once for neighbouring pieces."""

    def __init__(self, pretrained: Tensors) -> None:
        self._pretrained, self._latest, self._lock = pretrained, dict[str, torch.Tensor](), Lock()

    def flat(self, name: str, like: torch.Tensor) -> torch.Tensor:
        """Return a tensor in one dimension, with the type and device of ``like``."""
        with self._lock:
            if name not in self._latest:
                while len(self._latest) > 2:
                    del self._latest[next(iter(self._latest))]
                self._latest[name] = self._pretrained[name].detach().to(like).reshape(-1)
            return self._latest[name]


def random_masks(pieces: Sequence[Piece], kept: int, seed: int) -> Callable[[int], Mask]:
    """Return a function that tells what is gone of a piece: together all but ``kept``, uniformly drawn."""
    drawn = _each(lambda piece: _bytes(len(piece.own), seed, piece.place), pieces)

    def look(level: int) -> tuple[int, list[IntArray], int]:
        """Return how many bytes are below the level, and where in each piece and how many are equal to it."""
        counts = _each(lambda part: (np.count_nonzero(part < level), np.flatnonzero(part == level)), drawn)
        return sum(int(below) for below, _ in counts), [at for _, at in counts], sum(len(at) for _, at in counts)

    level = min(255, 256 * kept // max(1, sum(map(len, drawn))))
    below, ties, equal = look(level)
    while not below <= kept <= below + equal:
        level += 1 if below < kept else -1
        below, ties, equal = look(level)
    stay = np.zeros(equal, dtype=bool)
    if kept > below:
        keys = np.random.default_rng((seed, level)).random(equal)
        stay[np.argpartition(keys, kept - below - 1)[: kept - below]] = True
    stays = np.split(stay, np.cumsum([len(at) for at in ties])[:-1])

    def replaced(number: int) -> Mask:
        mask = drawn[number] >= level
        mask[ties[number]] = ~stays[number]
        drawn[number] = np.zeros(0, dtype=np.uint8)  # so that bytes go as results come
        return mask

    return replaced


def _bytes(size: int, seed: int, place: tuple[int, int]) -> NDArray[np.uint8]:
    words = np.random.SFC64((seed, *place)).random_raw(-(-size // 8))
    return np.asarray(words, dtype=np.uint64).view(np.uint8)[:size]


def largest_drift(pieces: Sequence[Piece], kept: int) -> Callable[[int], Mask]:
    """Return a function that tells what is gone of a piece: all but the ``kept`` that moved most, of equals the first.

    Floats that are not negative are ordered as their bits are: the upper half of the smallest drift that is kept comes
    from a histogram, the whole of it from the drifts in that bin.
    """
    bins = 1 << 16
    counts = sum(_each(lambda piece: np.bincount(_upper(piece.drift()), minlength=bins), pieces), np.zeros(bins, int))
    above = np.append(np.cumsum(counts[::-1])[::-1], 0)  # [i]: how many drifts are in bin i or a higher one
    level = int(np.flatnonzero(above >= kept)[-1])  # `bins`, above all, where nothing is kept
    wanted = kept - int(above[level + 1]) if kept else 0
    least = np.float32(np.inf)
    if wanted:
        inside = np.concatenate(_each(lambda piece: (d := piece.drift())[_upper(d) == level], pieces))
        least = np.partition(inside, len(inside) - wanted)[len(inside) - wanted]
        wanted -= int(np.count_nonzero(inside > least))
    equal = _each(lambda piece: int(np.count_nonzero(piece.drift() == least)), pieces)
    quotas = np.clip(wanted - (np.cumsum(equal) - equal), 0, equal)

    def replaced(number: int) -> Mask:
        drift = pieces[number].drift()
        mask: Mask = drift <= least
        mask[np.flatnonzero(drift == least)[: quotas[number]]] = False
        return mask

    return replaced


def _upper(drift: NDArray[np.float32]) -> NDArray[np.uint32]:
    return drift.view(np.uint32) >> np.uint32(16)


def _each(do: Callable[[T], R], things: Iterable[T]) -> list[R]:
    """Do something to each thing, in threads; numpy lets go of the interpreter meanwhile."""
    return list(_pool().map(do, things))


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="mixing")
