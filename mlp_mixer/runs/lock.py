"""One run at a time in a workdir: WORKDIR/lock.

On a disk the system locks the file for as long as the process lives (`disk_lock`). A bucket has no
such thing; there the owner says again and again that it is alive (`bucket_lock`).
"""

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import jax
import numpy as np
from jax.experimental import multihost_utils

from mlp_mixer.runs.bucket_lock import BucketLock
from mlp_mixer.runs.disk_lock import DiskLock
from mlp_mixer.runtime.processes import from_process_0
from mlp_mixer.runtime.storage import AnyPath, as_path, is_address

SHARED_SECONDS = 10  # in which a file of process 0 appears to all others


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
    held: Lock = BucketLock(workdir) if is_address(workdir) else DiskLock(Path(workdir))
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
