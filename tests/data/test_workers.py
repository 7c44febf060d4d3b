"""Worker processes that are shared, and that die."""

import functools
import gc
import itertools
import multiprocessing
import multiprocessing.resource_tracker
import multiprocessing.spawn
import os
import shutil
import signal
import threading
import time

import numpy as np
import pytest

from mlp_mixer.data import crews
from mlp_mixer.data.examples import Example
from mlp_mixer.data.workers import fill_batches

LIKE = Example(np.zeros((2, 2, 1), np.uint8), 0)


def load(much: bytes, position: int) -> Example:
    return LIKE


def test_a_process_that_dies_while_reading_is_an_error_no_hang(
    monkeypatch,
):
    multiprocessing.resource_tracker.ensure_running()  # which is started in the same way
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", os.fsencode(shutil.which("false")))
    found = []

    def take_one():
        big = functools.partial(load, bytes(1 << 20))  # a pipe holds 64 KiB
        try:
            found.append(next(fill_batches(big, [range(4)], 4, LIKE, workers=2)))
        except ChildProcessError as error:
            found.append(error)

    thread = threading.Thread(target=take_one, daemon=True)
    thread.start()
    thread.join(30)
    assert found, "it hangs"
    with pytest.raises(ChildProcessError, match="2 processes that load images died"):
        raise found[0]


def where(number: int, position: int) -> Example:
    """Tells in the label which process loads it, and in the pixels which reader asks."""
    return Example(np.full((2, 2, 1), 10 * number + position, np.uint8), os.getpid())


def read(number: int, count: int = 3) -> list:
    batches = ([4 * i, 4 * i + 1] for i in range(count))
    return list(fill_batches(functools.partial(where, number), batches, 2, LIKE, workers=1))


@pytest.mark.slow
def test_readers_share_processes_and_get_their_own_images():
    with crews.keep_processes(1):
        long = fill_batches(
            functools.partial(where, 2), ([i] for i in range(100)), 1, LIKE, workers=1
        )
        begun = list(itertools.islice(long, 4))
        found = [read(0), read(1)]
        last = list(long)[-1]
        processes = {int(batch["label"][0]) for batch in [*begun, *found[0], *found[1], last]}
        assert len(processes) == 1 and os.getpid() not in processes
        pixels = [[int(x) for x in np.concatenate([b["image"][:, 0, 0, 0] for b in each])]
                  for each in (begun, *found, [last])]  # fmt: skip
        assert pixels == [[20, 21, 22, 23], [0, 1, 4, 5, 8, 9], [10, 11, 14, 15, 18, 19], [119]]
    (after,) = {int(batch["label"][0]) for batch in read(0)}
    assert after not in processes  # which ended with the last reader


@pytest.mark.slow
def test_a_reader_that_stops_early_leaves_no_open_files():
    def files():
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    with crews.keep_processes(1):
        read(0)
        before = files()
        for number in range(5):
            stopped = fill_batches(
                functools.partial(where, number), itertools.repeat([0, 1]), 2, LIKE, workers=1
            )
            next(stopped)
            stopped.close()
        assert read(3)[0]["image"][1, 0, 0, 0] == 31
        deadline = time.monotonic() + 10  # the last tasks may still run
        while files() > before and time.monotonic() < deadline:
            time.sleep(0.05)
        assert files() <= before


def test_new_processes_replace_a_killed_one():
    with crews.keep_processes(1):
        (killed,) = {int(batch["label"][0]) for batch in read(0)}
        os.kill(killed, signal.SIGKILL)
        with pytest.raises(ChildProcessError, match="one of the 1 processes"):
            for _ in range(100):  # until the death is noticed
                read(0)
        (another,) = {int(batch["label"][0]) for batch in read(0)}
        assert another != killed


def of_nowhere(position: int) -> Example:
    return LIKE


def test_a_source_that_processes_cannot_import_is_named(monkeypatch):
    monkeypatch.setattr(of_nowhere, "__module__", "__main__")
    monkeypatch.setattr(__import__("__main__"), "of_nowhere", of_nowhere, raising=False)
    with pytest.raises(ValueError, match=r"source anew .*of_nowhere.*workers=0"):
        list(fill_batches(of_nowhere, [[0]], 1, LIKE, workers=1))


def test_a_machine_has_at_most_one_process_per_cpu(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert [crews.usable(n) for n in (0, 3, 16)] == [0, 3, 4]
    monkeypatch.delattr(os, "memfd_create")  # as on macOS
    assert crews.usable(16) == 0
