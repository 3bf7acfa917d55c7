"""A machine without network says so in seconds; one with a proxy leaves names to the proxy."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from bench import models
from bench.errors import RequestError
from bench.models import hub
from bench.tasks import hub as tasks
from bench.tasks.assemble import Columns

COMMIT = "a" * 40


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    def unknown(*args: Any, **options: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    for name in hub.PROXIES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setenv("HF_HOME", str(tmp_path))


@pytest.mark.usefixtures("no_network")
def test_without_network_it_fails_in_seconds() -> None:
    import huggingface_hub.constants

    before, started = huggingface_hub.constants.HF_HUB_OFFLINE, time.monotonic()
    with pytest.raises(RequestError, match="the Hub cannot be reached from here, and the cache does not have it"):
        models.create(f"someone/a-model@{COMMIT}").folder()
    with pytest.raises(RequestError, match="the Hub cannot be reached from here.*load_dataset"):
        tasks.fetch(tasks.DataSet("someone/data", None, {"train": "train"}, Columns()), COMMIT)
    assert time.monotonic() - started < 20
    assert before == huggingface_hub.constants.HF_HUB_OFFLINE


@pytest.mark.usefixtures("no_network")
def test_a_proxy_may_know_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not hub.is_known()
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    assert hub.is_known()
