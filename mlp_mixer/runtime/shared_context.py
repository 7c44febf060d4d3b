"""A change to the whole process that several runs in it may need at once."""

import contextlib
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager


class SharedContext:
    """The first to enter it makes the change, the last to leave takes it back.

    Runs in several threads of one process would otherwise take back each other's.
    """

    def __init__(self, change: Callable[[], AbstractContextManager]):
        self._change, self._lock = change, threading.Lock()
        self._inside, self._undo = 0, contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._undo.enter_context(self._change())
            self._inside += 1

    def __exit__(self, *error) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._undo.close()
