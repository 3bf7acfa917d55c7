"""What the machine can do: which device, and whether bf16 is native."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from bench.errors import RequestError, unknown

DEVICES = ("auto", "cpu", "cuda")


def resolve_device(wanted: str) -> str:
    """Return ``cpu`` or ``cuda``; ``auto`` takes the GPU where there is one."""
    if wanted.partition(":")[0] not in DEVICES:
        raise unknown("device", wanted, DEVICES)
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise RequestError("device 'cuda' is wanted, but torch sees no GPU; use --device cpu or install a CUDA build.")
    return wanted


@cache
def has_native_bf16(device: str) -> bool:
    """Return whether the device multiplies bf16 matrices in hardware."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_capability()[0] >= 8
    try:
        return any(flag in Path("/proc/cpuinfo").read_text() for flag in ("avx512_bf16", "amx_bf16", " bf16 "))
    except OSError:
        return False


def resolve_precision(wanted: str, device: str) -> str:
    """Return ``bf16`` or ``fp32``; ``auto`` takes bf16 where the device has it natively."""
    if wanted == "auto":
        return "bf16" if has_native_bf16(device) else "fp32"
    return str(wanted)
