"""SIGTERM and Ctrl-C: the run saves a checkpoint after the step under way, and ends.

SIGTERM is how schedulers and cloud machines announce that they will end a process soon.
"""

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

import jax
from jax.experimental import multihost_utils

log = logging.getLogger(__name__)


class Interrupted(BaseException):
    """Raised by a signal that asks the run to end, where `Preemption.interrupting` allows it."""


class Preemption:
    """Notes the signals that ask a run to end, for as long as it is entered.

    The first signal is noted. A second one ends the process at once, with nothing saved. In several
    processes a SIGTERM to any one of them is noted by all: that is `jax.distributed`'s doing, which
    catches it by itself. There Ctrl-C stays what it is in Python.
    """

    def __init__(self):
        self._noted: int | None = None
        self._interrupting = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Preemption":
        # Python hands signals to the main thread only.
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame) -> None:
        self._noted = number
        for each in self._before:
            signal.signal(each, signal.SIG_DFL)
        # Not by logging, which may be what the signal has interrupted.
        os.write(2, b"\nsaving and stopping; a second signal stops at once\n")
        if self._interrupting:
            raise Interrupted

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """Within it, a signal raises Interrupted: for work that may outlast the time that is left.

        Not in several processes, which could not agree on it.
        """
        self._interrupting = True
        try:
            if self._noted:
                raise Interrupted
            yield
        finally:
            self._interrupting = False

    def reached(self, step: int) -> bool:
        """Whether the run is to be saved and ended at `step`: the same step in all processes.

        To be called after every step, in all processes.
        """
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._noted is not None

    def exit(self, step: int) -> NoReturn:
        """Ends the process with 128 + the signal's number, as a shell reports one that it killed.

        So it can be told from a finished run, whose status is 0, by whatever may start it again.
        """
        number = signal.Signals(self._noted or signal.SIGTERM)
        if step:
            done = f"; step {step} is saved, and the same command continues from it"
        else:
            done = " before the first step; the same command starts again"
        log.warning("stopped by %s%s", number.name, done)
        raise SystemExit(128 + number)
