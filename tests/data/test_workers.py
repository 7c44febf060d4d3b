"""Worker processes that die."""

import functools
import multiprocessing.resource_tracker
import multiprocessing.spawn
import os
import shutil
import threading

import numpy as np
import pytest

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
