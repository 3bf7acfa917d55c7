"""The Dask engine: the same jobs on workers anywhere. docs/cluster.md says how to set one up."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import logging
import os
import pickle
import signal
import sys
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence, Set
from concurrent.futures import Future, InvalidStateError
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from bench._version import __version__
from bench.errors import RequestError
from bench.runner.devices import choose_gpus, threads_of
from bench.runner.jobs import Execute, Job, Worker
from bench.runner.slots import Slot, WorkerDied
from bench.runner.worker import THREADS, Result, Stopped, attempt, one_line
from bench.store import Store
from bench.suites.suite import read_yaml

log = logging.getLogger(__name__)
CONNECT_SECONDS = 30
CALL_SECONDS = 2.0
IGNORE_CTRL_C = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"  # run by a worker before anything else
LANGUAGE = (
    __version__,
    *(field.name for field in dataclasses.fields(Job)),
)  # two processes with other ones may not talk
LOOK_SECONDS = 1.0  # between requests for the list of workers
UNREACHABLE = (OSError, ValueError, KeyError, TimeoutError, RuntimeError)  # a closed connection is any of these in Dask
LOST_SECONDS = 30.0  # without any worker of a batch job: enough for a nanny to replace one that died


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AddressFile(_File):
    """A scheduler that runs already."""

    kind: Literal["address"]
    address: str = Field(description="such as tcp://host:8786")


class LocalFile(_File):
    """Workers on this machine."""

    kind: Literal["local"]
    workers: int = Field(1, ge=1, description="processes")
    threads: int | None = Field(None, ge=1, description="of each; default: cores / workers, at most OMP_NUM_THREADS")
    memory: str | int = Field("auto", description="limit of each, such as 8GB; 0 for none")
    gpus: bool = Field(False, description="one worker per GPU, pinned by dask-cuda")


class SlurmFile(_File):
    """Workers that SLURM starts."""

    kind: Literal["slurm"]
    workers: int = Field(1, ge=0, description="processes in all, one per SLURM job unless the options say otherwise")
    options: dict[str, Any] = Field({}, description="arguments of dask_jobqueue.SLURMCluster")


ClusterFile = Annotated[AddressFile | LocalFile | SlurmFile, Field(discriminator="kind")]


Request = AddressFile | LocalFile | SlurmFile


def read_request(scheduler: str | None, workers: int | None) -> Request:
    """Return what is meant by an address or a cluster file; without either, processes on this machine.

    Raises:
        RequestError: the file is missing or wrong.
    """
    if scheduler is None:
        return LocalFile.model_validate({"kind": "local", "workers": workers or 1})
    if workers is not None:
        raise RequestError("a Dask scheduler or cluster file says how many workers to use; leave out --workers.")
    return AddressFile(kind="address", address=scheduler) if "://" in scheduler else read_file(Path(scheduler))


def connect(request: Request, device: str) -> Cluster:
    """Start a cluster, or connect to one that runs.

    Raises:
        RequestError: Dask is not installed, its options are wrong, or the scheduler does not answer.
    """
    distributed = _need("distributed", "the engine 'dask' needs Dask: pip install 'doorbench[cluster]'.")
    logging.getLogger("distributed").setLevel(logging.WARNING)  # otherwise it logs every connection
    own: Any = None if isinstance(request, AddressFile) else start(request)
    where = request.address if isinstance(request, AddressFile) else own.scheduler_address
    try:
        client = distributed.Client(own or where, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        if own is not None:
            own.close()
        raise RequestError(f"no Dask scheduler answers at {where}: {' '.join(str(error).split())}.") from None
    return Cluster(client, own, device, request.workers if isinstance(request, SlurmFile) else 0)


def read_file(path: Path) -> Request:
    """Read a cluster file; every mistake is one line."""
    if not path.is_file():
        raise RequestError(f"no cluster file {path}; give a YAML file or an address such as tcp://host:8786.")
    adapter: TypeAdapter[Request] = TypeAdapter(ClusterFile)
    try:
        return adapter.validate_python(read_yaml(path))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise RequestError(f"{path}: {field or 'kind'}: {first['msg']}; valid kinds: address, local, slurm.") from None


def start(request: LocalFile | SlurmFile) -> Any:
    """Start a cluster that ends with the run."""
    if isinstance(request, SlurmFile):
        jobqueue = _need("dask_jobqueue", "SLURM needs dask-jobqueue: pip install 'doorbench[cluster]'.")
        try:
            scheduler = {"dashboard_address": ":0", **request.options.get("scheduler_options", {})}
            cluster = jobqueue.SLURMCluster(**{"processes": 1, **request.options, "scheduler_options": scheduler})
        except (TypeError, ValueError) as error:
            raise RequestError(f"options of the cluster file: {' '.join(str(error).split())}.") from None
        cluster.scale(request.workers)
        return cluster
    # The terminal sends Ctrl-C to every process, but only the runner should act on it and end its workers.
    shared = {
        "n_workers": request.workers,
        "memory_limit": request.memory,
        "dashboard_address": ":0",
        "preload": [IGNORE_CTRL_C],
    }
    if request.gpus:
        cuda = _need("dask_cuda", "one worker per GPU needs dask-cuda: pip install dask-cuda; or set gpus: false.")
        return cuda.LocalCUDACluster(**shared)
    threads = request.threads or threads_of(request.workers)
    # A nanny sets thread counts to 1 before its worker imports anything; `env` overrides it.
    environment = dict.fromkeys(THREADS, str(threads))
    distributed = import_module("distributed")
    return distributed.LocalCluster(processes=True, threads_per_worker=threads, env=environment, **shared)


def _need(module: str, hint: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise RequestError(hint) from None


class Remote:
    """One Dask worker process. It gets one job at a time, however many threads it has.

    Args:
        cluster: that it belongs to.
        address: of the worker.
        unfit: why it can do no job at all; empty where nothing is known against it.
    """

    def __init__(self, cluster: Cluster, address: str, unfit: str) -> None:
        self.name = address
        self._cluster, self._unfit = cluster, unfit
        self.left = False
        self._future: Any = None
        self._result: Future[Result] = Future()

    def submit(self, job: Job, store: Store, execute: Execute) -> Future[Result]:
        """Send the job to this very worker, which may have its victim in memory.

        Raises:
            RequestError: the scheduler has gone.
        """
        cluster, result = self._cluster, Future[Result]()
        self._result = result
        if self._unfit:
            result.set_result(Result("refused", error=self._unfit))
            return result
        packed = pickle.dumps((job, store, execute))
        try:
            self._future = cluster.client.submit(
                attempt_remote,
                packed,
                cluster.run,
                cluster.device,
                key=f"doorbench-{cluster.run}-{uuid.uuid4().hex}",
                workers=[self.name],
                allow_other_workers=False,
                pure=False,
                retries=0,
            )
        except Exception as error:
            raise RequestError(f"the Dask scheduler takes no job any more: {one_line(error)}.") from None
        self._future.add_done_callback(lambda future: _settle(result, future))
        return result

    def stop(self) -> None:
        """Raise an exception inside the job, which releases its lock on the way out."""
        self._cluster.call(interrupt, self.name, self._cluster.run)

    def kill(self) -> None:
        """Kill the process; its nanny, if it has one, starts another process, which is a new slot."""
        if not self.left:
            self._cluster.call(die, self.name)
            self._cluster.refuse(self)
            self.lost("the worker was ended")

    def lost(self, how: str) -> None:
        """Give up the job in flight: the worker is gone, so Dask would wait for it for ever."""
        self.left = True
        with contextlib.suppress(InvalidStateError):
            self._result.set_exception(WorkerDied(how))
        if self._future is not None:
            with contextlib.suppress(Exception):  # a scheduler that has gone has forgotten the job
                self._future.cancel(force=True)


class Cluster:
    """The workers of a Dask scheduler, which come and go.

    Args:
        client: connected.
        own: the cluster that this run started and ends; None for one that others started.
        device: ``auto``, ``cpu`` or ``cuda``; every worker checks what it has.
        renewed: how many workers to keep by submitting batch jobs again that have ended; 0 for never.
    """

    def __init__(self, client: Any, own: Any, device: str, renewed: int) -> None:
        self.client, self.device, self.run = client, device, uuid.uuid4().hex
        self._own, self._renewed = own, renewed
        self._alive: dict[str, float] = {}  # by batch job: when one of its workers was last seen
        self._slots: dict[str, Remote] = {}
        self._unused: set[str] = set()
        self._looked = -LOOK_SECONDS

    def slots(self) -> Sequence[Slot]:
        """Return the workers of the cluster as it is now; the jobs of those that left are given up."""
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._looked = time.monotonic()
            listed = self._listed()
            addresses = set(listed)
            for address in self._slots.keys() - addresses:
                self._slots.pop(address).lost("the worker left the cluster (killed, out of memory, or out of time?)")
            self._unused &= addresses
            for address, unfit in self._greeted(addresses - self._slots.keys() - self._unused).items():
                self._slots[address] = Remote(self, address, unfit)
            if self._renewed:
                self._renew([str(worker["name"]) for worker in listed.values()])
        return list(self._slots.values())

    def _listed(self) -> dict[str, Any]:
        """Return what the scheduler knows of its workers, by address.

        Raises:
            RequestError: it has ended, or does not answer.
        """
        try:
            listed = self.client.scheduler_info(n_workers=-1).get("workers")
        except UNREACHABLE as error:
            raise RequestError(f"the Dask scheduler does not answer any more: {one_line(error)}.") from None
        if listed is None or self.client.status != "running":
            raise RequestError("the Dask scheduler is gone; what was finished is kept, the same command goes on.")
        return dict(listed)

    def _greeted(self, addresses: Set[str]) -> dict[str, str]:
        """Return why workers cannot take jobs, by address; empty where one can. What does not answer is left out.

        A worker that cannot read what it is sent ends without a word, so it is first asked in a way that it can answer.
        """
        reasons: dict[str, str] = {}
        with contextlib.suppress(*UNREACHABLE):
            how = {"on_error": "return", "callback_timeout": CONNECT_SECONDS}
            answers = self.client.run(greet, workers=sorted(addresses), **how) if addresses else {}
            for address, answer in answers.items():
                if isinstance(answer, Exception):
                    reasons[address] = f"it cannot load this program: {one_line(answer)}"
                else:
                    same = answer == LANGUAGE
                    reasons[address] = "" if same else f"it has doorbench {answer[0]}; install {LANGUAGE[0]}, as here"
        return reasons

    def _renew(self, names: Sequence[str]) -> None:
        """Submit batch jobs again that have ended; Dask itself forgets those with several workers."""
        now = time.monotonic()
        for job in self._own.workers:
            if any(name == str(job) or name.startswith(f"{job}-") for name in names):
                self._alive[job] = now
        ended = [job for job, last in self._alive.items() if now - last > LOST_SECONDS]
        for job in ended:
            del self._alive[job]
        if ended:
            self._own.sync(self._own.scale_down, ended)
            self._own.scale(self._renewed)

    def refuse(self, slot: Slot) -> None:
        """Stop using a worker, although the scheduler may still list it."""
        self._unused.add(slot.name)
        self._slots.pop(slot.name, None)

    def call(self, function: Callable[..., Awaitable[None]], address: str, *arguments: Any) -> None:
        """Let the event loop of a worker call a coroutine function, without waiting for it."""
        with contextlib.suppress(*UNREACHABLE):
            how = {"wait": False, "on_error": "ignore", "callback_timeout": CALL_SECONDS}
            self.client.run(function, *arguments, workers=[address], **how)

    def close(self) -> None:
        """Leave the scheduler, and end the cluster if this run started it."""
        self.client.close()
        if self._own is not None:
            self._own.close()


def _settle(result: Future[Result], future: Any) -> None:
    """Pass on how a Dask future ended."""
    with contextlib.suppress(InvalidStateError):
        if future.status == "finished":
            try:
                result.set_result(future.result(timeout=30))
            except Exception as error:  # the worker died while its answer was on the way
                result.set_exception(WorkerDied(f"the worker's answer was lost: {type(error).__name__}"))
        elif future.status == "error":
            raised = future.exception()
            killed = type(raised).__name__ == "KilledWorker"
            result.set_exception(WorkerDied("the worker was killed") if killed else raised)
        else:
            result.set_exception(WorkerDied(f"Dask gave the job up ({future.status})"))


_workers: dict[str, Worker] = {}  # in a worker: by run, the latest one only
_threads: dict[str, int] = {}  # in a worker: by run, the thread that does a job
_lock = threading.Lock()


async def greet() -> tuple[str, ...]:
    """Say which jobs this worker can read."""
    return LANGUAGE


def attempt_remote(packed: bytes, run: str, device: str) -> Result:
    """Try a job in a Dask worker, given a pickled job, store and function that does the job."""
    job: Job
    store: Store
    execute: Execute
    try:
        job, store, execute = pickle.loads(packed)
        worker = _worker_of(run, device)
    except Exception as error:  # a plugin that is not installed here, or a device that is not
        return Result("refused", error=one_line(error))
    try:
        with _lock:
            _threads[run] = threading.get_ident()
        try:
            return attempt(job, store, execute, worker)
        finally:
            with _lock:
                _threads.pop(run, None)
    except Stopped:
        return Result("lost", error="the runner ended")


async def interrupt(run: str) -> None:
    """Raise :class:`Stopped` in the thread that does a job of a run."""
    with _lock:
        if run in _threads:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(_threads[run]), ctypes.py_object(Stopped))


async def die() -> None:
    """Kill this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def _worker_of(run: str, device: str) -> Worker:
    """Return this process's worker for a run; that of an earlier run is dropped with all it kept in memory."""
    if run not in _workers:
        from distributed import get_worker

        dask = get_worker()
        threads = int(dask.state.nthreads)
        for name in THREADS:  # read when torch is imported
            os.environ[name] = str(threads)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(threads)
        _workers.clear()
        gpus = choose_gpus(device)
        _workers[run] = Worker("cuda" if gpus else "cpu", str(dask.address), threads)
    return _workers[run]
