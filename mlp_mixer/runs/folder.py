"""The files of a training run that are not checkpoints or metrics.

WORKDIR/config.json   the full config, from the start
WORKDIR/classes.txt   the class names, one a line, from the start
WORKDIR/model.npz     the weights in the published layout, from the end
WORKDIR/data.json     what the data was (see training.resume), from the start
WORKDIR/finished      says that all steps are done and evaluated
WORKDIR/lock          which process runs in it; locked for as long as that lives
"""

import contextlib
import datetime
import errno
import fcntl
import json
import logging
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import jax
import ml_collections
import numpy as np
from jax.experimental import multihost_utils

from mlp_mixer.runtime.processes import from_process_0
from mlp_mixer.runtime.storage import write_text

log = logging.getLogger(__name__)

CONFIG_FILE, CLASSES_FILE, WEIGHTS_FILE = "config.json", "classes.txt", "model.npz"
DATA_FILE, FINISHED_FILE, LOCK_FILE = "data.json", "finished", "lock"
SHARED_SECONDS = 10  # in which a file of process 0 appears to all others

# The workdirs in which runs of this process are under way, and since when. The system's locks keep
# only other processes out, and are gone when any handle of the file is closed.
_held: dict[Path, str] = {}
_holding = threading.Lock()


@contextlib.contextmanager
def lock(workdir: Path) -> Iterator[None]:
    """Keeps other runs out of the workdir, which is made where there is none.

    Process 0 holds the lock. The system takes it away with the process, however that ends, and does
    not hand it on to the process's children. A workdir that was made, and into which nothing was
    written then, is removed again.

    Raises:
        ValueError: another run holds it (names its process), the workdir is no folder but an
            address, or it is another folder in each process.
    """
    if re.match(r"[a-z0-9]+:/", str(workdir)):
        raise ValueError(
            f"workdir {workdir} is an address; locks and renaming need a folder. Mount the bucket "
            "(gcsfuse), or train in a folder and copy it"
        )
    held = _Lock(workdir)
    try:
        if not from_process_0(held.acquire):
            raise ValueError(
                f"a run in {workdir} is under way ({held.holder or 'see process 0'}), and two "
                "would overwrite each other's files; stop that one first, or choose another workdir"
            )
        _check_shared(workdir)
        yield
    finally:
        held.release()


class _Lock:
    """The lock file of a workdir.

    Attributes:
        holder: who holds the lock, where `acquire` did not get it.
    """

    def __init__(self, workdir: Path):
        self._workdir, self.holder = workdir, ""
        self._folder, self._is_new = workdir, False  # with links resolved, by `acquire`
        self._file: TextIO | None = None

    def acquire(self) -> bool:
        """Locks the workdir, which is made where there is none; whether that worked."""
        self._is_new = not self._workdir.exists()
        self._workdir.mkdir(parents=True, exist_ok=True)
        self._folder = self._workdir.resolve()
        path = self._folder / LOCK_FILE
        with _holding:
            if self._folder in _held:
                self.holder = _held[self._folder]
                return False
            file = path.open("a+")
            self.holder = _locked_by(file, path)
            if self.holder:
                file.close()
                return False
            now = datetime.datetime.now().isoformat(" ", "seconds")
            words = f"process {os.getpid()} on {socket.gethostname()} since {now}"
            self._file, _held[self._folder] = file, words
            file.truncate(0)
            file.write(f"{words}\n")
            file.flush()
        return True

    def release(self) -> None:
        """Gives the lock back, if it was acquired; removes a new workdir that stayed empty."""
        if self._file is None:
            return
        with _holding, self._file:
            del _held[self._folder]
            with contextlib.suppress(OSError):  # it may have vanished
                if self._is_new and [x.name for x in self._folder.iterdir()] == [LOCK_FILE]:
                    (self._folder / LOCK_FILE).unlink()
                    self._folder.rmdir()


def _locked_by(file: TextIO, path: Path) -> str:
    """Locks an open file for this process; "" if that worked, else who holds it."""
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
    # Another process may have removed the file since it was opened; see `_Lock.release`.
    is_there = path.exists() and os.path.samefile(path, file.fileno())
    return "" if is_there else "one that is just ending"


def _check_shared(workdir: Path) -> None:
    """Raises ValueError, in every process, unless the workdir is the same folder in all."""
    if jax.process_count() == 1:
        return

    def put() -> int:
        number = secrets.randbelow(2**31)
        marker(number).touch()
        return number

    def marker(number: int) -> Path:
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
            "hosts needs a workdir on a disk or in a mounted bucket that they share"
        )


def claim(
    workdir: Path,
    config: ml_collections.ConfigDict,
    class_names: tuple[str, ...],
    is_new: bool = False,
) -> None:
    """Writes config and class names into the workdir, as process 0 only.

    The config that is kept is that of the newest start. A new run has no weights yet: those that
    an earlier one has left are taken away.
    """
    if jax.process_index():
        return
    if is_new:
        (workdir / WEIGHTS_FILE).unlink(missing_ok=True)
    write_text(workdir / CLASSES_FILE, "\n".join(class_names) + "\n")
    config_file = workdir / CONFIG_FILE
    write_text(config_file, json.dumps(json.loads(config.to_json()), indent=2) + "\n")


def is_finished(workdir: str | Path) -> bool:
    """Whether a run has done all of its steps, and has evaluated the last one."""
    workdir = Path(workdir)
    if (workdir / FINISHED_FILE).exists():
        return True
    # Runs of earlier versions, which wrote the weights last, and nothing of their data.
    return (workdir / WEIGHTS_FILE).exists() and not (workdir / DATA_FILE).exists()


def mark_finished(workdir: Path, step: int) -> None:
    """Makes the run count as finished, as process 0 only."""
    if jax.process_index() == 0:
        (workdir / FINISHED_FILE).write_text(f"{step} steps\n")


def workdir_of(weights: str | Path) -> Path | None:
    """The workdir that `weights` is, or whose model.npz or checkpoint it is; None for any other."""
    path = Path(weights).expanduser()
    if path.name == WEIGHTS_FILE:
        path = path.parent
    elif is_checkpoint(path):
        path = path.absolute().parent.parent
    if not (path / CONFIG_FILE).exists():
        return None
    try:
        config = read_config(path)
    except ValueError:
        return None
    # Other tools have a config.json, too: timm, and many on the hub.
    is_ours = isinstance(config, dict) and isinstance(config.get("model"), dict)
    is_ours = is_ours and "image_size" in config
    return path if is_ours else None


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder is the checkpoint of a step, in its workdir or away from it."""
    return (folder / "params").is_dir() and folder.absolute().name.isdecimal()


def read_config(workdir: Path) -> dict[str, Any]:
    """The config of the run, as nested dicts.

    Raises:
        FileNotFoundError: this is no workdir.
        ValueError: the file is damaged.
    """
    path = Path(workdir) / CONFIG_FILE
    if not path.exists():
        raise FileNotFoundError(f"{workdir} is not the workdir of a training run: no {CONFIG_FILE}")
    try:
        return json.loads(path.read_text())
    except ValueError as error:  # of JSON, or of UTF-8
        raise ValueError(f"{path} is not the config of a run: {error}") from error


def read_classes(workdir: Path) -> tuple[str, ...]:
    """The class names of the run."""
    return tuple((Path(workdir) / CLASSES_FILE).read_text().splitlines())
