"""The lock of a workdir in a bucket: an object, made only if there is none.

Its owner writes in it every HEARTBEAT_SECONDS that it is alive. When STALE_SECONDS have gone by
without that, another run takes the lock over, and the old owner, should it wake up, finds that out
before it writes anything.
"""

import contextlib
import datetime
import json
import logging
import secrets
import threading
import time
from typing import Any

from mlp_mixer.runs import holders
from mlp_mixer.runtime import buckets
from mlp_mixer.runtime.bucket_errors import as_oserror
from mlp_mixer.runtime.storage import AnyPath, names

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 30.0
STALE_SECONDS = 120.0


class LostLock(OSError):
    """Another run has taken the workdir over, so this one may write nothing more there."""


class BucketLock:
    """A `lock.Lock` that is an object, and the thread that keeps it fresh."""

    def __init__(self, workdir: AnyPath):
        self._workdir, self.holder = workdir, ""
        self._object: buckets.SharedObject | None = None
        self._version: buckets.Version | None = None  # that this run has written last
        self._fresh = 0.0  # when that was, on this machine's steady clock
        self._is_new = self._is_lost = False
        self._words, self._run = holders.this_process(), secrets.token_hex(8)
        self._beats = 0
        self._writing = threading.Lock()
        self._released = threading.Event()
        self._heart = threading.Thread(target=self._beat_until_released, daemon=True)

    def acquire(self) -> bool:
        with holders.changing:
            if str(self._workdir) in holders.held_here:
                self.holder = holders.held_here[str(self._workdir)]
                return False
            holders.held_here[str(self._workdir)] = self._words
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
        self._object = buckets.SharedObject(self._workdir / holders.FILE)
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
        with holders.changing:
            holders.held_here.pop(str(self._workdir), None)

    def _who_lives(self, found: buckets.Version) -> str:
        """Returns who holds the lock, and when it may be taken over; "" if nobody does any more."""
        content = _content(found)
        if content["released"]:
            return ""
        age = (self._now() - found.written).total_seconds()
        if age >= STALE_SECONDS or holders.is_dead(content["process"]):
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
        probe = buckets.SharedObject(self._workdir / f"{holders.FILE}.{self._run}")
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
            "process": holders.identity(),
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
        """Writes a sign of life, over the one before."""
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
                if self._is_new and self._object and names(self._workdir) == [holders.FILE]:
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
