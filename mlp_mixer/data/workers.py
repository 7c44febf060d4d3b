"""Threads or processes that fill batches ahead of time, and return them in order."""

import collections
import itertools
import logging
import mmap
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mlp_mixer.data.examples import Broken, BrokenLog, Example, stack_labels

log = logging.getLogger(__name__)

Batch = dict[str, np.ndarray]
Load = Callable[[int], Example | Broken]

PART_ROWS = 32  # rows of a batch that a worker fills at a time
WARN_SECONDS = 60  # interval of warnings while a batch does not arrive


def fill_batches(
    load: Load,
    batches: Iterable[Sequence[int]],
    rows: int,
    like: Example,
    *,
    workers: int = 0,
    threads: int | None = None,
) -> Iterator[Batch]:
    """Yields a batch for each sequence of positions.

    A batch is `image` uint8 [rows, h, w, c], `label` int32 [rows] or uint8 [rows, classes], and
    `mask` float32 [rows]. At most two batches are in memory at a time, or two parts of PART_ROWS
    per worker if that is more.

    Args:
        load: returns the example at a position; must be picklable for worker processes.
        batches: up to `rows` positions for each batch; remaining rows are zero, with mask 0.
        rows: number of rows in every batch.
        like: an example with the shapes of images and labels.
        workers: number of worker processes; 0 for threads of this process.
        threads: number of threads if there are no worker processes; one per CPU by default.

    Raises:
        ChildProcessError: a worker process was killed.
        ValueError: worker processes are not possible here.
    """
    threads = threads or os.cpu_count() or 1
    crew = _Processes(load, workers) if workers else _Threads(load, threads)
    ahead = max(2, -(-2 * (workers or threads) // -(-rows // PART_ROWS)))
    broken_log = BrokenLog()
    pending: collections.deque[_Pending] = collections.deque()
    try:
        for number, positions in enumerate(batches):
            pending.append(_Pending(crew, positions, rows, like))
            if number >= ahead:
                yield pending.popleft().wait(broken_log)
        while pending:
            yield pending.popleft().wait(broken_log)
    except BrokenProcessPool as error:
        raise ChildProcessError(
            f"one of the {workers} processes that load images died: killed, perhaps for lack of "
            "memory, or it could not start (a script that uses worker processes needs "
            "`if __name__ == '__main__':`). Fewer workers take less memory; the same command "
            "continues from the last checkpoint"
        ) from error
    finally:
        crew.pool.shutdown(wait=False, cancel_futures=True)


class _Pending:
    """A batch whose parts are being filled by a crew of threads or processes."""

    def __init__(
        self, crew: "_Threads | _Processes", positions: Sequence[int], rows: int, like: Example
    ):
        self._crew, self._like = crew, like
        self._buffer = crew.zeros((rows, *like.image.shape))
        self._parts = [
            crew.fill(self._buffer, first, positions[first : first + PART_ROWS])
            for first in range(0, len(positions), PART_ROWS)
        ]

    def wait(self, broken_log: BrokenLog) -> Batch:
        images = self._buffer.images
        label = stack_labels([self._like.label])
        labels = np.zeros((len(images), *label.shape[1:]), label.dtype)
        mask = np.zeros(len(labels), np.float32)
        for first, future in zip(itertools.count(0, PART_ROWS), self._parts, strict=False):
            for row, (label, broken) in enumerate(_result(future), first):
                broken_log.add(broken)
                if label is not None:
                    labels[row], mask[row] = label, 1
        self._crew.release(self._buffer)
        return {"image": images, "label": labels, "mask": mask}


def _result(future: futures.Future):
    """Waits for a future's result, with a warning every minute."""
    waited = 0
    while futures.wait([future], timeout=WARN_SECONDS).not_done:
        waited += WARN_SECONDS
        log.warning(
            "waiting for images for %d s: storage is stuck, or loading is far too slow", waited
        )
    return future.result()


def _fill(load: Load, images: np.ndarray, positions: Sequence[int]) -> list[tuple]:
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


class _Buffer(NamedTuple):
    """Images uint8 [n, h, w, c] to be filled, and the descriptor of their memory's file, if any."""

    images: np.ndarray
    file: int = -1


class _Threads:
    """Threads of this process."""

    def __init__(self, load: Load, count: int):
        self.pool, self._load = futures.ThreadPoolExecutor(count), load

    def zeros(self, shape: tuple[int, ...]) -> _Buffer:
        return _Buffer(np.zeros(shape, np.uint8))

    def fill(self, buffer: _Buffer, first: int, positions: Sequence[int]) -> futures.Future:
        part = buffer.images[first : first + len(positions)]
        return self.pool.submit(_fill, self._load, part, positions)

    def release(self, buffer: _Buffer) -> None:
        """Is called when a buffer is full; threads have nothing to release."""


class _Processes:
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
        self._load_file = os.fdopen(os.memfd_create("load"), "wb")  # open as long as this object
        self._load_file.write(pickled)
        self._load_file.flush()
        # Spawned, because a fork would copy locks that JAX's threads happen to hold.
        context = multiprocessing.get_context("spawn")
        path = _path(self._load_file.fileno())
        self.pool = futures.ProcessPoolExecutor(count, context, _start_worker, (path,))

    def zeros(self, shape: tuple[int, ...]) -> _Buffer:
        """Allocates memory that other processes can open.

        It is in no folder, so nothing is left behind however the process ends, and the usual 64 MB
        of a container's /dev/shm do not limit it.
        """
        size = int(np.prod(shape))
        file = os.memfd_create("batch")
        os.ftruncate(file, size)
        return _Buffer(np.frombuffer(mmap.mmap(file, size), np.uint8).reshape(shape), file)

    def fill(self, buffer: _Buffer, first: int, positions: Sequence[int]) -> futures.Future:
        return self.pool.submit(
            _fill_shared, _path(buffer.file), buffer.images.shape, first, positions
        )

    def release(self, buffer: _Buffer) -> None:
        os.close(buffer.file)  # the memory lives as long as the array


def _path(file: int) -> str:
    """Returns the path by which other processes can open a file of this one."""
    return f"/proc/{os.getpid()}/fd/{file}"


_load: Load  # set in worker processes


def _start_worker(path: str) -> None:
    global _load  # noqa: PLW0603 - a pool's initializer can leave it nowhere else
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process handles Ctrl-C
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        pickled = Path(path).read_bytes()
    except OSError:  # the main process has ended
        os._exit(1)
    _load = pickle.loads(pickled)  # safe: it comes from the parent process


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
    os._exit(1)


def _fill_shared(path: str, shape: tuple[int, ...], first: int, positions: Sequence[int]):
    images = np.memmap(path, np.uint8, "r+", shape=shape)
    return _fill(_load, images[first : first + len(positions)], positions)
