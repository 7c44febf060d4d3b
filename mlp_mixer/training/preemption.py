"""SIGTERM and Ctrl-C: the run saves a checkpoint after the step under way, and ends.

SIGTERM is how schedulers and cloud machines announce that they will end a process soon.
"""

import logging
import os
import signal
import threading

import jax
from jax.experimental import multihost_utils

log = logging.getLogger(__name__)


class Preemption:
    """Notes the signals that ask a run to end, for as long as it is entered.

    The first signal is noted. A second one ends the process at once, with nothing saved. In several
    processes a SIGTERM to any one of them is noted by all: that is `jax.distributed`'s doing, which
    catches it by itself. There Ctrl-C stays what it is in Python.
    """

    def __init__(self):
        self._noted: int | None = None
        self._before: dict[int, object] = {}

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
        os.write(2, b"\nstopping after this step; the same signal again stops at once\n")

    @property
    def noted(self) -> bool:
        """Whether this process was asked to end; other processes may not know it yet."""
        return self._noted is not None

    def reached(self, step: int) -> bool:
        """Whether the run is to be saved and ended at `step`: the same step in all processes.

        To be called after every step, in all processes.
        """
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self.noted

    def exit(self, step: int) -> None:
        """Ends the process with 128 + the signal's number, as a shell reports one that it killed.

        So it can be told from a finished run, whose status is 0, by whatever may start it again.
        """
        number = signal.Signals(self._noted or signal.SIGTERM)
        log.warning(
            "stopped by %s; step %d is saved, and the same command continues from it",
            number.name, step,
        )  # fmt: skip
        raise SystemExit(128 + number)
