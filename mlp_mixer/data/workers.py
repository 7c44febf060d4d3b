"""Threads or processes that fill batches ahead of time, and return them in order."""

import collections
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np

from mlp_mixer.data.crews import Load, Processes, Threads
from mlp_mixer.data.examples import BrokenLog, Example, stack_labels

log = logging.getLogger(__name__)

Batch = dict[str, np.ndarray]

PART_ROWS = 32  # rows of a batch that a worker fills at a time; fewer of small batches
LEAST_PART_ROWS = 2
WARN_SECONDS = 60  # interval of warnings while a batch does not arrive


def fill_batches(
    load: Load,
    batches: Iterable[Sequence[Any]],
    rows: int,
    like: Example,
    *,
    workers: int = 0,
    threads: int | None = None,
    tell: Callable[[Sequence[str]], object] | None = None,
) -> Iterator[Batch]:
    """Yields a batch for each sequence of positions.

    A batch is `image` uint8 [rows, h, w, c], `label` int32 [rows] or uint8 [rows, classes], and
    `mask` float32 [rows]. At most two batches are in memory at a time, or two parts of PART_ROWS
    per worker if that is more.

    Args:
        load: returns the example at a position, an index or whatever else it takes; must be
            picklable for worker processes.
        batches: up to `rows` positions for each batch; remaining rows are zero, with mask 0.
        rows: number of rows in every batch.
        like: an example with the shapes of images and labels.
        workers: number of worker processes; 0 for threads of this process.
        threads: number of threads if there are no worker processes; one per CPU by default.
        tell: is called with the messages of broken examples; by default they are logged once.

    Raises:
        ChildProcessError: a worker process was killed.
        ValueError: worker processes are not possible here.
    """
    threads = threads or os.cpu_count() or 1
    crew = Processes(load, workers) if workers else Threads(load, threads)
    hands = workers or threads
    part_rows = max(LEAST_PART_ROWS, min(PART_ROWS, -(-rows // hands)))
    ahead = max(2, -(-2 * hands // -(-rows // part_rows)))
    tell = tell or BrokenLog().add
    pending: collections.deque[_Pending] = collections.deque()
    try:
        for number, positions in enumerate(batches):
            pending.append(_Pending(crew, positions, rows, part_rows, like))
            if number >= ahead:
                yield pending.popleft().wait(tell)
        while pending:
            yield pending.popleft().wait(tell)
    except BrokenProcessPool as error:
        raise ChildProcessError(
            f"one of the {workers} processes that load images died: killed, perhaps for lack of "
            "memory, or it could not start (a script that uses worker processes needs "
            "`if __name__ == '__main__':`). Fewer workers take less memory. The same "
            "command continues a run from its last checkpoint"
        ) from error
    finally:
        for batch in pending:
            batch.cancel()
        crew.close()


class _Pending:
    """A batch whose parts are being filled by a crew of threads or processes."""

    def __init__(
        self,
        crew: Threads | Processes,
        positions: Sequence[Any],
        rows: int,
        part_rows: int,
        like: Example,
    ):
        self._like = like
        self._buffer = crew.buffer((rows, *like.image.shape))
        self._firsts = range(0, len(positions), part_rows)
        self._parts = [
            crew.fill(self._buffer, first, positions[first : first + part_rows])
            for first in self._firsts
        ]

    def cancel(self) -> None:
        """Is called for a batch that nobody waits for."""
        for part in self._parts:
            part.cancel()

    def wait(self, tell: Callable[[Sequence[str]], object]) -> Batch:
        images = self._buffer.images
        label = stack_labels([self._like.label])
        labels = np.zeros((len(images), *label.shape[1:]), label.dtype)
        mask = np.zeros(len(labels), np.float32)
        for first, future in zip(self._firsts, self._parts, strict=True):
            for row, (label, broken) in enumerate(_result(future), first):
                tell(broken)
                if label is not None:
                    labels[row], mask[row] = label, 1
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
