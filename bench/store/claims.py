"""Claims: who is at work on a key, so that many processes share the work and nothing is done twice.

A claim on a key is a chain of files. The first is called after the key; each further one is called after the key and
the token in the file before it, and is made only when the maker of that one is dead. A file is made with O_EXCL, which
has exactly one winner, also over NFS, and tokens are random, so that no name is ever used twice. Whoever made the last
file of the chain holds the claim, however many took part in the race. To end it, the holder puts an ``ended`` file
behind its own, after which nobody can succeed it, and removes the chain from the front. If it dies half-way through
that, the next one follows the ``ended`` file at once.

An owner on this machine is dead when its process is. Of any other owner only the heartbeat tells: a counter in its
file that it raises twice in a period. It is dead when we have looked several times and seen no change for one and a
half periods of our own monotonic clock. No two clocks are ever compared.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import threading
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.errors import RequestError
from bench.store.documents import Damaged, read_with_status
from bench.store.identity import Owner, me
from bench.store.layout import ATTEMPTS, Folder, check_key
from bench.store.pulse import pulse

log = logging.getLogger(__name__)
RESTS = 1.5  # periods without a heartbeat after which an owner counts as dead
LONGEST_PERIOD = 3600.0
LONGEST = 1000  # takeovers in a row; more is a circle that somebody has made
_TOKEN = re.compile(r"[0-9a-z]{1,64}")
_NAME = re.compile(r"[0-9a-f]{64}(\.[0-9a-z]+)?")


def heartbeat() -> float:
    """Return the heartbeat period in seconds: ``DOORBENCH_HEARTBEAT``, 10 by default."""
    text = os.environ.get("DOORBENCH_HEARTBEAT", "10")
    try:
        period = float(text)
    except ValueError:
        period = 0.0
    if not 0 < period <= LONGEST_PERIOD:
        raise RequestError(f"DOORBENCH_HEARTBEAT={text!r} is not a number of seconds above 0 and up to 3600.")
    return period


@dataclass(frozen=True)
class ClaimInfo:
    """Who is at work on a key.

    Attributes:
        since: seconds since 1970 by the owner's clock; for people only.
        alive: False where the owner is known to be dead; another machine's counts as alive until it is seen to rest.
    """

    key: str
    host: str
    pid: int
    since: float
    alive: bool


@dataclass(frozen=True)
class Link:
    """One file of a chain, as it was read.

    Attributes:
        token: what the next file's name ends in.
        raw: the whole content, heartbeat included.
        owner: None where the file is torn or marks the end.
        ended: whether it marks the end.
    """

    path: Path
    token: str
    raw: bytes
    owner: Owner | None = None
    since: float = 0.0
    period: float = 0.0
    ended: bool = False


class Claim:
    """A claim that this process holds. Use it in a ``with`` statement, or call :meth:`release`."""

    def __init__(self, claims: Claims, key: str, before: list[Path], path: Path, period: float) -> None:
        self.key, self.period = key, period
        self._claims, self._chain, self._token, self._pid = claims, [*before, path], uuid.uuid4().hex, os.getpid()
        self._since, self._beats, self._released = time.time(), 0, False
        self._io = threading.Lock()  # the heartbeat thread must not write to a handle that has just been closed
        self._handle = _make(path, self._content())

    @property
    def held(self) -> bool:
        """Whether nobody has taken the claim over, as happens to a process that was stopped for long."""
        return not self._released and not os.path.lexists(self._claims.claim_path(self.key, self._token))

    def renew(self) -> None:
        """Raise the heartbeat. The handle belongs to our own file, whatever has become of its name."""
        with self._io:
            if self._handle >= 0 and self._pid == os.getpid():
                self._beats += 1
                os.pwrite(self._handle, self._content(), 0)
                os.fsync(self._handle)

    def release(self) -> None:
        """Give the claim back. If the store cannot be written just now, the heartbeat thread tries again later."""
        self._released = True
        if self.finish():
            pulse.remove(self)

    def withdraw(self, path: Path) -> None:
        """Give up a file that turned out to follow a chain that had ended."""
        os.close(self._handle)
        self._handle = -1
        path.unlink(missing_ok=True)

    def finish(self) -> bool:
        """Give back what was released; False where there is still something to do."""
        with self._io:
            if self._handle < 0 or self._pid != os.getpid():
                return True
            if not self._released:
                return False
            try:
                ours = self._claims.end_chain(self._chain, self._claims.claim_path(self.key, self._token))
            except OSError as error:
                log.warning("the claim on %s cannot be given back yet: %s", self.key, error)
                return False
            if not ours:
                log.warning("the claim on %s was taken over while this process rested", self.key)
            os.close(self._handle)
            self._handle = -1
            return True

    def _content(self) -> bytes:
        about = {"token": self._token, "since": self._since, "period": self.period, "beats": f"{self._beats:012}"}
        return json.dumps({"owner": asdict(me()), **about}).encode()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Claims(Folder):
    """The claims of a store."""

    def claim(self, key: str, *, wait: float = 0.0) -> Claim | None:
        """Claim a key, or return None if another one is at work on it for the next ``wait`` seconds.

        Look again after claiming whether the work is still to be done: the one before may just have finished it.
        """
        period, end = heartbeat(), time.monotonic() + wait
        check_key(key)
        while True:
            with self.guard():
                claim = self._try(key, period)
            left = end - time.monotonic()
            if claim is not None or left <= 0:
                return claim
            time.sleep(min(left, period / 8))

    def claims(self) -> list[ClaimInfo]:
        """Return who is at work on what, by key."""
        found = []
        for key in sorted({name[:64] for name in self._claim_names()}):
            chain = self._chain(key)
            if chain and not chain[-1].ended:
                last = chain[-1]
                host, pid = (last.owner.host, last.owner.pid) if last.owner else ("unknown", 0)
                found.append(ClaimInfo(key, host, pid, last.since, not self._dead(last, heartbeat())))
        return found

    def owners_at_work(self) -> set[str]:
        """Return the tokens of the processes that hold a claim and are not known to be dead."""
        keys = {name[:64] for name in self._claim_names()}
        last = [chain[-1] for key in keys if (chain := self._chain(key))]
        return {link.owner.token for link in last if link.owner and not self._dead(link, heartbeat())}

    def orphan_claims(self) -> list[Path]:
        """Return claim files that no chain leads to: what is left where a process died while it ended one."""
        names = self._claim_names()  # before the chains: a file made later is part of a chain read later
        reached = {link.path.name for key in {name[:64] for name in names} for link in self._chain(key)}
        return [self.root / "claims" / name for name in sorted(set(names) - reached)]

    def claim_path(self, key: str, token: str = "") -> Path:
        """Return where the first file of a chain lies, or the one that follows a token."""
        return self.root / "claims" / (f"{key}.{token}" if token else key)

    def end_chain(self, chain: list[Path], end: Path) -> bool:
        """Mark the end of a chain and remove it from the front; False if somebody has succeeded its last file."""
        try:
            os.close(_make(end, b'{"ended": "%s"}' % uuid.uuid4().hex.encode()))
        except FileExistsError:
            if not _read(end).ended:
                return False
        for path in [*chain, end]:
            path.unlink(missing_ok=True)
        return True

    def _try(self, key: str, period: float) -> Claim | None:
        self.home(self.claim_path(key))
        for _ in range(ATTEMPTS):
            chain = self._chain(key)
            if chain and not self._dead(chain[-1], period):
                return None
            path = self.claim_path(key, chain[-1].token if chain else "")
            try:
                claim = Claim(self, key, [link.path for link in chain], path, period)
            except FileExistsError:
                continue  # another one was quicker
            # Where the first file is still the same, nobody has ended the chain, so what we follow was its last.
            if not chain or self._first_token(key) == chain[0].token:
                pulse.add(claim)
                return claim
            claim.withdraw(path)
        return None

    def _chain(self, key: str) -> list[Link]:
        chain: list[Link] = []
        with contextlib.suppress(FileNotFoundError):
            while len(chain) < LONGEST:
                chain.append(_read(self.claim_path(key, chain[-1].token if chain else "")))
            raise RequestError(f"the claim files {self.claim_path(key)}* lead nowhere; remove them.")
        return chain

    def _first_token(self, key: str) -> str:
        try:
            return _read(self.claim_path(key)).token
        except FileNotFoundError:
            return ""

    def _claim_names(self) -> list[str]:
        with self.guard():
            return [name for name in os.listdir(self.root / "claims") if _NAME.fullmatch(name)]

    def _dead(self, link: Link, period: float) -> bool:
        if link.ended:
            return True
        alive = link.owner.alive() if link.owner else None
        return _rests(link, period) if alive is None else not alive


@dataclass
class _Look:
    """What we saw of a heartbeat, by our own monotonic clock."""

    raw: bytes
    last: float
    rested: float = 0.0


_looks: dict[str, _Look] = {}


def _rests(link: Link, period: float) -> bool:
    """Whether a heartbeat has not moved for long enough. One gap between two looks counts for one period at most.

    So a machine that was frozen as a whole does not take its neighbours' claims at the first look after it.
    """
    now, period = time.monotonic(), max(period, link.period)
    look = _looks.get(str(link.path))
    if look is None or look.raw != link.raw:
        _looks[str(link.path)] = _Look(link.raw, now)
        return False
    look.rested += min(now - look.last, period)
    look.last = now
    return look.rested >= RESTS * period


def _read(path: Path) -> Link:
    try:
        raw, status = read_with_status(path)
    except Damaged as error:
        raise RequestError(f"{path} is in the way of a claim: {error}.") from None
    try:
        about = json.loads(raw)
        ended = "ended" in about
        token = _TOKEN.fullmatch(about["ended" if ended else "token"])[0]  # type: ignore[index]
        if ended:
            return Link(path, token, raw, ended=True)
        who = about["owner"]
        owner = Owner(who["token"], str(who["host"]), who["machine"], int(who["pid"]), int(who["started"]))
        return Link(path, token, raw, owner, float(about["since"]), min(float(about["period"]), LONGEST_PERIOD))
    except (ValueError, TypeError, KeyError):  # its maker died, or has yet to write
        return Link(path, f"torn{status.st_ino:x}{status.st_mtime_ns:x}", raw)


def _make(path: Path, content: bytes) -> int:
    """Make a claim file that must not exist and return its handle."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    try:
        if os.write(handle, content) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(handle)
    except BaseException:
        os.close(handle)
        path.unlink(missing_ok=True)
        raise
    return handle
