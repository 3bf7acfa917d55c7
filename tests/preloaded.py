"""The command line without its start-up time: a server that has imported everything forks for each command.

``python -m tests.preloaded SOCKET`` serves; ``client(SOCKET)`` is a program that behaves as ``doorbench`` does, with
its own arguments, folder, environment, standard streams and exit status; ``program()`` is both in one.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from functools import cache
from pathlib import Path
from typing import Any

_CLIENT = """#!{python} -S
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({path!r})
    request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(request).to_bytes(8, "little")], [0, 1, 2])
    server.sendall(request)
    sys.exit(server.recv(1)[0])
"""


def client(path: str) -> str:
    """Return the text of a program that sends its command to the server at ``path``."""
    return _CLIENT.format(python=sys.executable, path=path)


def start(path: Path, **where: Any) -> subprocess.Popen[bytes]:
    """Start a server and wait until it listens; ``where`` goes to ``Popen``."""
    server = subprocess.Popen([sys.executable, "-m", "tests.preloaded", str(path)], **where)
    while not path.exists():
        assert server.poll() is None, "the command server has ended"
        time.sleep(0.1)
    return server


@cache
def program() -> str:
    """Return the path of a program that behaves as ``doorbench`` does until this process ends."""
    folder = tempfile.TemporaryDirectory()
    place = Path(folder.name)
    server = start(place / "socket", cwd=Path(__file__).parent.parent)
    atexit.register(folder.cleanup)
    atexit.register(server.wait)
    atexit.register(server.terminate)
    (place / "doorbench").write_text(client(str(place / "socket")))
    (place / "doorbench").chmod(0o755)
    return str(place / "doorbench")


def serve(path: str) -> None:
    """Answer one command after the other until the process is ended."""
    import pandas  # noqa: F401
    import torch  # noqa: F401
    import wordfreq  # noqa: F401

    from bench import learning, report, runner, store  # noqa: F401
    from tests import few_words

    few_words.install()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        while True:
            connection, _ = listening.accept()
            with connection:
                size, streams, _, _ = socket.recv_fds(connection, 8, 3)
                request = b""
                while len(request) < int.from_bytes(size, "little"):
                    request += connection.recv(1 << 16)
                child = os.fork()
                if child == 0:
                    _command(streams, *json.loads(request))
                for stream in streams:
                    os.close(stream)
                _, status = os.waitpid(child, 0)
                connection.sendall(bytes([os.waitstatus_to_exitcode(status) & 255]))


def _command(streams: list[int], arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    from bench.cli.app import main

    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    # Those of the server know whether they could seek in what it was started with, which may have been a file.
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["doorbench", *arguments]
    status = 1
    try:
        main()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1])
