"""The lock of a workdir on a disk, which the system undoes when its process ends."""

import contextlib
import errno
import fcntl
import logging
import os
from pathlib import Path
from typing import TextIO

from mlp_mixer.runs import holders
from mlp_mixer.runtime.storage import names

log = logging.getLogger(__name__)


class DiskLock:
    """A `lock.Lock` that is a file which this process has locked."""

    def __init__(self, workdir: Path):
        self._workdir, self.holder = workdir, ""
        self._folder, self._is_new = workdir, False  # with links resolved, by `acquire`
        self._file: TextIO | None = None

    def acquire(self) -> bool:
        self._is_new = not self._workdir.exists()
        self._workdir.mkdir(parents=True, exist_ok=True)
        self._folder = self._workdir.resolve()
        path = self._folder / holders.FILE
        with holders.changing:
            if str(self._folder) in holders.held_here:
                self.holder = holders.held_here[str(self._folder)]
                return False
            file = path.open("a+")
            self.holder = _locked_by(file, path)
            if self.holder:
                file.close()
                return False
            words = holders.this_process()
            self._file, holders.held_here[str(self._folder)] = file, words
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
        with holders.changing, self._file:
            del holders.held_here[str(self._folder)]
            with contextlib.suppress(OSError):  # it may have vanished
                if self._is_new and names(self._folder) == [holders.FILE]:
                    (self._folder / holders.FILE).unlink()
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
    # Another process may have removed the file since it was opened; see `DiskLock.release`.
    is_there = path.exists() and os.path.samefile(path, file.fileno())
    return "" if is_there else "one that is just ending"
