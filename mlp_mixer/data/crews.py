"""Threads or processes that fill rows of a batch: what `workers` distributes its work to.

Worker processes are started once and shared: whoever reads with as many at the same time, such as a
run and its evaluations, has the same ones.
"""

import collections
import contextlib
import functools
import itertools
import mmap
import multiprocessing
import os
import pickle
import signal
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mlp_mixer.data.examples import Broken, Example

Load = Callable[[Any], Example | Broken]

SOURCES = 8  # data sources that a worker process keeps open


def usable(workers: int) -> int:
    """Returns how many of `workers` processes this machine can use: at most one per CPU.

    Where worker processes are not possible there are none, and threads do their work.
    """
    return min(workers, os.cpu_count() or 1) if hasattr(os, "memfd_create") else 0


def fill(load: Load, images: np.ndarray, positions: Sequence[Any]) -> list[tuple]:
    """Writes images into their rows; returns (label, messages) of each, None for no image."""
    found: list[tuple] = []
    for row, position in enumerate(positions):
        example = load(position)
        if isinstance(example, Broken):
            found.append((None, example.broken))
        else:
            images[row] = example.image
            found.append((example.label, example.broken))
    return found


class SharedMemory:
    """Memory that other processes can open by a path, as long as this object lives.

    It is in no folder, so nothing is left behind however the process ends, and the usual 64 MB
    of a container's /dev/shm do not limit it. `memory` may be used for longer than `path`.
    """

    def __init__(self, size: int):
        file = os.memfd_create("mlp_mixer")
        weakref.finalize(self, os.close, file).atexit = False
        os.ftruncate(file, size)
        self.memory = mmap.mmap(file, size)
        self.path = f"/proc/{os.getpid()}/fd/{file}"


class Buffer(NamedTuple):
    """Images uint8 [n, h, w, c] to be filled, and the memory that they lie in if it is shared."""

    images: np.ndarray
    shared: SharedMemory | None = None


class Threads:
    """Threads of this process."""

    def __init__(self, load: Load, count: int):
        self._pool, self._load = futures.ThreadPoolExecutor(count), load

    def buffer(self, shape: tuple[int, ...]) -> Buffer:
        return Buffer(np.zeros(shape, np.uint8))

    def fill(self, buffer: Buffer, first: int, positions: Sequence[Any]) -> futures.Future:
        part = buffer.images[first : first + len(positions)]
        return self._pool.submit(fill, self._load, part, positions)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class Processes:
    """Worker processes, which write into memory shared with this one."""

    def __init__(self, load: Load, count: int):
        if not hasattr(os, "memfd_create"):
            raise ValueError("worker processes need Linux; use workers=0, which works in threads")
        try:
            pickled = pickle.dumps(load)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise ValueError(
                f"the data source cannot be sent to worker processes ({error}); use workers=0"
            ) from error
        # Not as an argument: Python writes arguments into a pipe. If they exceed its capacity and
        # the process dies before reading them, Python waits forever.
        self._load = SharedMemory(len(pickled))
        self._load.memory.write(pickled)
        self._number = next(_numbers)
        self._sharing = _shared_pool(count)
        self._pool = self._sharing.__enter__()

    def buffer(self, shape: tuple[int, ...]) -> Buffer:
        shared = SharedMemory(int(np.prod(shape)))
        return Buffer(np.frombuffer(shared.memory, np.uint8).reshape(shape), shared)

    def fill(self, buffer: Buffer, first: int, positions: Sequence[Any]) -> futures.Future:
        assert buffer.shared
        future = _submit(
            self._pool, _fill_shared, self._load.path, self._number,
            buffer.shared.path, buffer.images.shape, first, positions,
        )  # fmt: skip
        # Files that a process may still open must stay open, even if nobody waits for the result:
        # their paths would soon be those of other files.
        future.add_done_callback(functools.partial(_let_go, self._load, buffer.shared))
        return future

    def close(self) -> None:
        self._sharing.__exit__(None, None, None)


def _let_go(*needed: object) -> None:
    """Does nothing, and is called when what it was given is no longer needed."""


_numbers = itertools.count()  # of loads, which tell a worker process two of one path apart
_lock = threading.RLock()  # a garbage collection inside may end another reader
_pools: dict[int, futures.ProcessPoolExecutor] = {}  # by number of processes
_users: collections.Counter[futures.ProcessPoolExecutor] = collections.Counter()


def keep_processes(count: int) -> AbstractContextManager[Any]:
    """Keeps `count` worker processes alive, for all that read with as many.

    Starting them takes seconds, so a program that reads several times enters this around it all.
    """
    return _shared_pool(count) if count else contextlib.nullcontext()


@contextlib.contextmanager
def _shared_pool(count: int) -> Iterator[futures.ProcessPoolExecutor]:
    with _lock:
        pool = _pools.get(count)
        if pool is None or not _works(pool):
            # Spawned, because a fork would copy locks that JAX's threads happen to hold.
            context = multiprocessing.get_context("spawn")
            pool = _pools[count] = futures.ProcessPoolExecutor(count, context, _start_worker)
        _users[pool] += 1
    try:
        yield pool
    finally:
        with _lock:
            _users[pool] -= 1
            if last := not _users[pool]:
                del _users[pool]
                if _pools.get(count) is pool:
                    del _pools[count]
        if last:
            pool.shutdown(wait=False, cancel_futures=True)


def _works(pool: futures.ProcessPoolExecutor) -> bool:
    try:
        _submit(pool, int)
    except BrokenProcessPool:
        return False
    return True


def _submit(pool: futures.ProcessPoolExecutor, *task: Any) -> futures.Future:
    try:
        return pool.submit(*task)
    except OSError as error:  # from starting a process, just when the pool notices a dead one
        raise BrokenProcessPool(str(error)) from error


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process handles Ctrl-C
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
    os._exit(1)


@functools.lru_cache(SOURCES)
def _read_load(path: str, number: int) -> Load:
    """Makes what loads examples anew, once in each worker process."""
    del number
    pickled = Path(path).read_bytes()
    try:
        return pickle.loads(pickled)  # safe: it comes from the parent process
    except Exception as error:
        raise ValueError(
            f"a worker process cannot make the data source anew ({type(error).__name__}: {error}); "
            "define its class in a module that can be imported, or use workers=0"
        ) from error


def _fill_shared(
    load: str, number: int, path: str, shape: tuple[int, ...], first: int, positions: Sequence[Any]
) -> list[tuple]:
    images = np.memmap(path, np.uint8, "r+", shape=shape)
    return fill(_read_load(load, number), images[first : first + len(positions)], positions)
