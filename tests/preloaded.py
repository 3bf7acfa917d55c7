"""The command line without its start-up time: a server that has imported everything forks for each command.

``python -m tests.preloaded SOCKET`` serves; ``client(SOCKET)`` is a program that behaves as ``doorbench`` does, with
its own arguments, folder, environment, standard streams and exit status; ``serving(FOLDER)`` is both in one.
"""

from __future__ import annotations

import atexit
import json
import os
import pkgutil
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

OURS = ("attacks", "bench", "defenses")
OTHERS = (  # what they import when they need it
    "accelerate", "altair", "fontTools.subset", "itables", "jinja2", "matplotlib.backends.backend_agg",
    "matplotlib.figure", "mpl_toolkits.mplot3d", "narwhals", "pandas", "pyarrow.pandas_compat", "scipy.stats",
    "torch.distributed.tensor", "transformers.generation", "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto", "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert", "transformers.models.llama.modeling_llama", "vl_convert", "wordfreq",
)  # fmt: skip
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


@contextmanager
def serving(folder: Path, **where: Any) -> Iterator[str]:
    """Serve from a folder; gives the path of a program there that behaves as ``doorbench`` does meanwhile."""
    program = folder / "doorbench"
    program.write_text(client(str(folder / "socket")))
    program.chmod(0o755)
    with start(folder / "socket", **where) as server:
        yield str(program)
        server.terminate()


@cache
def program() -> str:
    """Return the path of a program that behaves as ``doorbench`` does until this process ends."""
    stack = ExitStack()
    atexit.register(stack.close)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    return stack.enter_context(serving(folder, cwd=Path(__file__).parent.parent))


def serve(path: str) -> None:
    """Answer one command after the other until the process is ended."""
    from tests import few_words

    for package in map(import_module, OURS):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                import_module(module.name)
    for name in OTHERS:
        import_module(name)
    import_module("bench.cli.app").command_line()
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
