"""Handles SIGTERM and Ctrl-C: the run saves a checkpoint after the current step, and ends.

Schedulers and cloud machines send SIGTERM to announce that they will end a process soon.
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

from mlp_mixer.runtime.notebooks import in_notebook

log = logging.getLogger(__name__)


class Interrupted(BaseException):
    """Raised by a signal that asks the run to end, within `Preemption.interrupting`."""


class Stopped(KeyboardInterrupt):
    """Ends the cell of a notebook after Ctrl-C, where SystemExit would ask the kernel to end."""

    def _render_traceback_(self) -> list[str]:
        """Returns the lines that IPython shows in place of a traceback."""
        return [str(self)]


class Preemption:
    """A context manager that notes signals which ask a run to end.

    The first signal is noted. A second one ends the process immediately, without saving; in a
    notebook Ctrl-C ends the cell then, and the kernel goes on. With several processes,
    `jax.distributed` catches SIGTERM instead, and a SIGTERM to any one of them is noted by all;
    Ctrl-C keeps its usual meaning.
    """

    def __init__(self):
        self._noted: int | None = None
        self._interrupting = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Preemption":
        # Python delivers signals to the main thread only.
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame) -> None:
        self._noted = number
        for each, before in self._before.items():
            signal.signal(each, before if in_notebook() else signal.SIG_DFL)
        # Not with logging, which the signal may have interrupted.
        os.write(2, b"\nsaving and stopping; a second signal stops at once\n")
        if self._interrupting:
            raise Interrupted

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """Lets a signal raise Interrupted, for work that may take longer than the time left.

        With several processes it never does, as they could not agree on it.
        """
        self._interrupting = True
        try:
            if self._noted:
                raise Interrupted
            yield
        finally:
            self._interrupting = False

    def reached(self, step: int) -> bool:
        """Returns whether to save and end the run at `step`, which is the same in all processes.

        Must be called after every step, in all processes.
        """
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._noted is not None

    def exit(self, step: int) -> NoReturn:
        """Ends the process with status 128 + the signal's number, as shells report killed ones.

        Whatever restarts runs can thus tell it from a finished run, whose status is 0.

        Raises:
            SystemExit: always, unless
            Stopped: it was Ctrl-C in a notebook, whose kernel goes on.
        """
        number = signal.Signals(self._noted or signal.SIGTERM)
        if number == signal.SIGINT and in_notebook():
            done = f"at step {step}, which is saved" if step else "before the first step"
            raise Stopped(f"Stopped {done}. To go on, run this cell again.")
        if step:
            done = f"; step {step} is saved, and the same command continues from it"
        else:
            done = " before the first step; the same command starts again"
        log.warning("stopped by %s%s", number.name, done)
        raise SystemExit(128 + number)
