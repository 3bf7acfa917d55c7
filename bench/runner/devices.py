"""What a machine has: its cores and GPUs, without importing torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib.metadata import version

from bench.errors import RequestError, unknown

DEVICES = ("auto", "cpu", "cuda")


def cores() -> int:
    """Return how many cores this process may use; containers' limits count."""
    from joblib.externals.loky import cpu_count

    return int(cpu_count())


def threads_of(workers: int) -> int:
    """Return the threads of each worker: an equal share of the cores, at most OMP_NUM_THREADS where that is set."""
    share, limit = max(1, cores() // workers), os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(limit)) if limit.isdecimal() and int(limit) else share


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if "+cpu" in version("torch"):
        return []
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        names = [name.strip() for name in chosen.split(",")]
        stop = names.index("-1") if "-1" in names else len(names)  # as CUDA reads it: nothing after an invalid one
        return [name for name in names[:stop] if name]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [str(i) for i, line in enumerate(line for line in listed.stdout.splitlines() if line.startswith("GPU "))]


def check_device(device: str) -> None:
    """Raise a RequestError for an unknown device."""
    if device not in DEVICES:
        raise unknown("device", device, DEVICES)


def choose_gpus(device: str) -> list[str]:
    """Return the GPUs to use for ``auto``, ``cpu`` or ``cuda``; none means the CPU.

    Raises:
        RequestError: the device is unknown, or a GPU is asked for on a machine without one.
    """
    check_device(device)
    gpus = [] if device == "cpu" else visible_gpus()
    if device == "cuda" and not gpus:
        raise RequestError(
            f"device 'cuda' is asked for, but torch {version('torch')} finds no GPU here; "
            "use --device cpu, or see nvidia-smi."
        )
    return gpus
