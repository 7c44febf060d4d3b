"""One run at a time in a workdir: WORKDIR/lock.

On a disk the system locks the file for as long as the process lives. A bucket has no such thing:
there the lock is an object, made only if there is none, in which its owner writes every
HEARTBEAT_SECONDS that it is alive. When STALE_SECONDS have gone by without that, another run takes
the lock over, and the old owner, should it wake up, finds that out before it writes anything.
"""

import contextlib
import datetime
import errno
import fcntl
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, TextIO

import jax
import numpy as np
from jax.experimental import multihost_utils

from mlp_mixer.runtime import buckets
from mlp_mixer.runtime.bucket_errors import as_oserror
from mlp_mixer.runtime.processes import from_process_0
from mlp_mixer.runtime.storage import AnyPath, as_path, is_address, names

log = logging.getLogger(__name__)

FILE = "lock"
HEARTBEAT_SECONDS = 30.0
STALE_SECONDS = 120.0
SHARED_SECONDS = 10  # in which a file of process 0 appears to all others

# The workdirs in which runs of this process are under way, and since when. The system's locks keep
# only other processes out, and are gone when any handle of the file is closed.
_held: dict[str, str] = {}
_holding = threading.Lock()


class LostLock(OSError):
    """Another run has taken the workdir over, so this one may write nothing more there."""


class Lock(Protocol):
    """What keeps other runs out of a workdir.

    Attributes:
        holder: who holds it, where `acquire` did not get it.
    """

    holder: str

    def acquire(self) -> bool:
        """Takes the lock, and returns whether that worked."""

    def beat(self) -> None:
        """Gives a sign of life to other runs; also called by a thread of its own."""

    def check(self) -> None:
        """Raises LostLock if the lock is no longer this run's; to be called before each write."""

    def release(self) -> None:
        """Gives the lock back, if it was acquired; removes a new workdir that stayed empty."""


@contextlib.contextmanager
def hold(workdir: str | os.PathLike) -> Iterator[Lock]:
    """Keeps other runs out of the workdir, which is made where there is none.

    Process 0 holds the lock. A workdir that was made, and into which nothing was written then, is
    removed again.

    Raises:
        ValueError: another run holds it (names its process), or the workdir is another folder in
            each process.
        OSError: the bucket cannot be used; says why.
    """
    workdir = as_path(workdir)
    if is_address(workdir) and not str(workdir).startswith("gs://"):
        raise ValueError(
            f"{workdir}: a workdir is a folder or a gs:// address; Orbax writes no checkpoints to "
            "others. Data, weights and outputs may be there"
        )
    held: Lock = _BucketLock(workdir) if is_address(workdir) else _DiskLock(Path(workdir))
    try:
        if not from_process_0(held.acquire):
            raise ValueError(
                f"a run in {workdir} is under way ({held.holder or 'see process 0'}), and two "
                "would overwrite each other's files; stop that one first, or choose another workdir"
            )
        _check_shared(workdir)
        yield held
    finally:
        held.release()


class _DiskLock:
    """The lock file of a workdir on a disk, which the system unlocks when this process ends."""

    def __init__(self, workdir: Path):
        self._workdir, self.holder = workdir, ""
        self._folder, self._is_new = workdir, False  # with links resolved, by `acquire`
        self._file: TextIO | None = None

    def acquire(self) -> bool:
        self._is_new = not self._workdir.exists()
        self._workdir.mkdir(parents=True, exist_ok=True)
        self._folder = self._workdir.resolve()
        path = self._folder / FILE
        with _holding:
            if str(self._folder) in _held:
                self.holder = _held[str(self._folder)]
                return False
            file = path.open("a+")
            self.holder = _locked_by(file, path)
            if self.holder:
                file.close()
                return False
            words = _this_process()
            self._file, _held[str(self._folder)] = file, words
            file.truncate(0)
            file.write(f"{words}\n")
            file.flush()
        return True

    def beat(self) -> None:
        """Does nothing: the system knows which processes live."""

    def check(self) -> None:
        """Does nothing: the system takes the lock from no living process."""

    def release(self) -> None:
        if self._file is None:
            return
        with _holding, self._file:
            del _held[str(self._folder)]
            with contextlib.suppress(OSError):  # it may have vanished
                if self._is_new and names(self._folder) == [FILE]:
                    (self._folder / FILE).unlink()
                    self._folder.rmdir()


def _locked_by(file: TextIO, path: Path) -> str:
    """Locks an open file for this process; returns "" if that worked, else who holds it."""
    try:
        # Not flock, which a forked child would go on holding after its parent was killed.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            file.seek(0)
            return file.read().strip() or "by an unknown process"
        log.warning(
            "%s cannot be locked (%s): nothing keeps a second run out of this workdir",
            path, error.strerror,
        )  # fmt: skip
    # Another process may have removed the file since it was opened; see `_DiskLock.release`.
    is_there = path.exists() and os.path.samefile(path, file.fileno())
    return "" if is_there else "one that is just ending"


class _BucketLock:
    """The lock object of a workdir in a bucket, and the thread that keeps it fresh."""

    def __init__(self, workdir: AnyPath):
        self._workdir, self.holder = workdir, ""
        self._object: buckets.SharedObject | None = None
        self._version: buckets.Version | None = None  # that this run has written last
        self._fresh = 0.0  # when that was, on this machine's steady clock
        self._is_new = self._is_lost = False
        self._words, self._run = _this_process(), secrets.token_hex(8)
        self._beats = 0
        self._writing = threading.Lock()
        self._released = threading.Event()
        self._heart = threading.Thread(target=self._beat_until_released, daemon=True)

    def acquire(self) -> bool:
        with _holding:
            if str(self._workdir) in _held:
                self.holder = _held[str(self._workdir)]
                return False
            _held[str(self._workdir)] = self._words
        try:
            with as_oserror(self._workdir):
                self._version = self._take()
        finally:
            if self._version is None:
                self._let_go()
        if self._version is None:
            return False
        self._fresh = time.monotonic()
        self._heart.start()
        return True

    def _take(self) -> buckets.Version | None:
        """Writes the lock object; returns None, and sets `holder`, if another run has it."""
        self._object = buckets.SharedObject(self._workdir / FILE)
        found = self._object.read()
        self._is_new = found is None and not names(self._workdir)
        self.holder = self._who_lives(found) if found else ""
        if self.holder:
            return None
        written = self._write(over=found)
        if written is None:  # another run was first, in this moment
            found = self._object.read()
            self.holder = _content(found)["owner"] if found else "one that is just ending"
        return written

    def _let_go(self) -> None:
        with _holding:
            _held.pop(str(self._workdir), None)

    def _who_lives(self, found: buckets.Version) -> str:
        """Returns who holds the lock, and when it may be taken over; "" if nobody does any more."""
        content = _content(found)
        if content["released"]:
            return ""
        age = (self._now() - found.written).total_seconds()
        if age >= STALE_SECONDS or _is_dead(content["process"]):
            log.warning(
                "taking over %s from %s, which gave its last sign of life %.0f seconds ago and "
                "has not ended as it should", self._workdir, content["owner"], age,
            )  # fmt: skip
            return ""
        return (
            f"{content['owner']}, last seen {age:.0f} seconds ago; if it is dead, the same command "
            f"takes its place in {STALE_SECONDS - age:.0f} seconds"
        )

    def _now(self) -> datetime.datetime:
        """Returns the time by the bucket's clock, which dates the lock: machines' clocks differ."""
        probe = buckets.SharedObject(self._workdir / f"{FILE}.{self._run}")
        try:
            made = probe.write(b"what time is it?", over=None)
        finally:
            probe.delete()
        assert made is not None  # nobody else knows the name
        return made.written

    def _write(self, over: buckets.Version | None, released: bool = False) -> Any:
        assert self._object is not None
        self._beats += 1
        content = {
            "owner": self._words,
            "process": _identity(),
            "released": released,
            "version": f"{self._run}.{self._beats}",  # no two have the same content
        }
        return self._object.write(
            (json.dumps(content, indent=1) + "\n").encode(), over.generation if over else None
        )

    def _beat_until_released(self) -> None:
        while not self._released.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(Exception):  # the network's; `check` tells if it lasts
                self.beat()
            if self._is_lost:
                return

    def beat(self) -> None:
        """Writes a sign of life, over the one before; does nothing on a disk."""
        with self._writing:
            if self._is_lost or self._released.is_set():
                return
            written = self._write(over=self._version)
            if written is None:
                self._is_lost = True
                return
            self._version, self._fresh = written, time.monotonic()

    def check(self) -> None:
        if self._version is None:  # not process 0
            return
        # Later than that it may be another's already: the bucket has to be asked.
        if not self._is_lost and time.monotonic() - self._fresh > STALE_SECONDS / 2:
            with as_oserror(self._workdir):
                self.beat()
        if self._is_lost:
            raise LostLock(
                f"another run has taken over {self._workdir}, because this one gave no sign of "
                f"life for {STALE_SECONDS:.0f} seconds (or its lock was deleted); this one stops "
                "and writes nothing more"
            )

    def release(self) -> None:
        if self._version is None:
            return
        self._released.set()
        self._let_go()
        if self._is_lost:
            return
        try:
            # Marked and not deleted, so that a run that waits sees that it ended as it should.
            with self._writing, as_oserror(self._workdir):
                self._write(over=self._version, released=True)
                if self._is_new and self._object and names(self._workdir) == [FILE]:
                    self._object.delete()
        except OSError as error:
            log.warning(
                "the lock of %s is not given back (%s); it may be taken over in %.0f seconds",
                self._workdir, error, STALE_SECONDS,
            )  # fmt: skip


def _content(found: buckets.Version) -> dict[str, Any]:
    try:
        content = json.loads(found.content)
        return {name: content[name] for name in ("owner", "process", "released")}
    except (ValueError, TypeError, KeyError):  # not written here
        return {"owner": "an unknown process", "process": None, "released": False}


def _this_process() -> str:
    now = datetime.datetime.now().isoformat(" ", "seconds")
    return f"process {os.getpid()} on {socket.gethostname()} since {now}"


def _identity() -> list[Any] | None:
    """Returns what tells this process from any other, on any machine; None if that is not known."""
    try:
        machine = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return [machine, os.readlink("/proc/self/ns/pid"), os.getpid(), _started(os.getpid())]
    except OSError:
        return None


def _is_dead(identity: list[Any] | None) -> bool:
    """Returns whether a process ran on this machine and has ended."""
    here = _identity()
    if identity is None or here is None or identity[:2] != here[:2]:
        return False
    try:
        return _started(identity[2]) != identity[3]
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False


def _started(pid: int) -> int:
    """Returns when a process was started, in clock ticks since the machine was booted."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    state, started = after_name.split()[0], after_name.split()[19]
    if state in "ZX":
        raise FileNotFoundError  # it has ended, and its parent has not asked how
    return int(started)


def _check_shared(workdir: AnyPath) -> None:
    """Raises ValueError, in every process, unless the workdir is the same folder in all."""
    if jax.process_count() == 1:
        return

    def put() -> int:
        number = secrets.randbelow(2**31)
        marker(number).write_bytes(b"")
        return number

    def marker(number: int) -> AnyPath:
        return workdir / f"seen_by_all.{number}"  # never looked for before: no disk knows better

    path = marker(from_process_0(put))
    deadline = time.monotonic() + SHARED_SECONDS
    while not (seen := path.exists()) and time.monotonic() < deadline:
        time.sleep(0.1)
    have = multihost_utils.process_allgather(np.int32(seen))
    if jax.process_index() == 0:
        path.unlink()
    if not have.all():
        raise ValueError(
            f"{workdir} is not the same folder in all processes: what process 0 writes there does "
            f"not appear in {', '.join(map(str, np.flatnonzero(have == 0)))}. A run of several "
            "hosts needs a workdir on a disk that they share, or in a bucket"
        )
