"""What the machine can do: which device, and which arithmetic runs natively on it."""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch

from bench.errors import RequestError, unknown

Device = Literal["cpu", "cuda"]
Arithmetic = Literal["bf16", "fp32"]
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "bf16", "fp32")


def device(name: str = "auto") -> Device:
    """Return the device to use; ``auto`` takes CUDA where it is there.

    Raises:
        RequestError: the name is unknown, or CUDA is asked for and not there.
    """
    if name not in DEVICES:
        raise unknown("device", name, DEVICES)
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise RequestError(
            "device 'cuda' is not available: torch sees no GPU; use cpu or install a CUDA build of torch"
        )
    return "cuda" if name != "cpu" and available else "cpu"


def precision(device: str, wanted: str = "auto") -> Arithmetic:
    """Return the arithmetic to use; ``auto`` takes bf16 only where the hardware computes in it natively."""
    if wanted not in PRECISIONS:
        raise unknown("precision", wanted, PRECISIONS)
    if wanted == "auto":
        return "bf16" if native_bf16(device) else "fp32"
    return "bf16" if wanted == "bf16" else "fp32"


@cache
def native_bf16(device: str) -> bool:
    """Return whether the device multiplies bf16 matrices in hardware."""
    if device == "cuda":
        return torch.cuda.get_device_capability()[0] >= 8
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
