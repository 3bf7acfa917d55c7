"""The Hugging Face Hub: what is fetched from there, and how quickly a machine without network says so."""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.errors import RequestError
from bench.models.files import TOKENIZER_FILES, error_line

PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


@functools.cache
def snapshot(repo: str, revision: str | None) -> Path:
    """Return the folder of a model, fetched or from the local cache; no code and no pickled weights are fetched.

    Raises:
        RequestError: it is not here and cannot be fetched; says how to get it.
    """
    import huggingface_hub

    patterns = ["*.safetensors", "*.safetensors.index.json", "config.json", *TOKENIZER_FILES, "*.model"]
    options: dict[str, Any] = {"allow_patterns": patterns, "ignore_patterns": ["*/*"]}
    try:
        with without_retries():
            return Path(huggingface_hub.snapshot_download(repo, revision=revision, **options))
    except Exception as error:  # the library raises a dozen kinds, and each means that the model is not here
        raise RequestError(
            f"model {repo} at {revision} cannot be loaded: {why_not(error)}. "
            f"To get it, run `hf download {repo} --revision {revision}` on a machine with network, or point HF_HOME "
            "to a cache where that was done (HF_HUB_OFFLINE=1 keeps to the cache)."
        ) from error


@contextmanager
def without_retries() -> Iterator[None]:
    """Where the name of the Hub is not known, let its libraries keep to their caches; they would try for a minute."""
    if is_known():
        yield
        return
    import datasets.config
    import huggingface_hub.constants

    places: tuple[Any, ...] = (huggingface_hub.constants, datasets.config)
    before = [place.HF_HUB_OFFLINE for place in places]
    for place in places:
        place.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = value


def why_not(error: Exception) -> str:
    """Return why nothing came from the Hub, for people."""
    return error_line(error) if is_known() else "the Hub cannot be reached from here, and the cache does not have it"


def is_known() -> bool:
    """Return whether the name of the Hub leads anywhere from here; a proxy is trusted to know it."""
    if any(os.environ.get(name) for name in PROXIES):
        return True
    host = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co").hostname
    try:
        return bool(socket.getaddrinfo(host, None))
    except OSError:
        return False
