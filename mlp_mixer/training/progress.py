"""What a run shows while it trains: reports, a progress bar, log lines, a profile."""

import contextlib
import io
import logging
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any, Protocol

import jax
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from mlp_mixer.runtime.notebooks import in_notebook
from mlp_mixer.runtime.storage import AnyPath, is_address, upload_tree

log = logging.getLogger(__name__)


class Meter:
    """Fetches the metrics of each step, one step late; measures speed, and checks for NaNs.

    Fetching late keeps the device busy with the next step. Fetching every step bounds the number of
    steps in flight: otherwise collectives on CPU deadlock, and a long queue slows a CPU down.
    """

    def __init__(self, batch_size: int, total_steps: int, log_every: int):
        """Starts the clock; a report is due every `log_every` steps."""
        self._per_device = batch_size / jax.device_count()
        self._total_steps, self._log_every = total_steps, log_every
        self._pending: list[tuple[int, Any]] = []  # steps and metrics, still on the devices
        self._window: list[dict[str, float]] = []  # metrics of the steps since the last report
        self._since, self._paused = time.perf_counter(), 0.0
        self._compiled: float | None = None  # seconds, until that is told
        self._newest, self._loss, self._fetched = 0, math.nan, self._since

    def compiled(self, seconds: float) -> None:
        """Notes how long compiling took, up to now; the log tells it when the first step is done.

        The time before does not count for the speed.
        """
        self._compiled, self._since = seconds, time.perf_counter()

    def add(self, step: int, metrics: Any) -> dict[str, float] | None:
        """Adds the metrics of the update that led to `step`, which may still be computed.

        Returns:
            A report on the steps before this one, if it was due then: means since the last report,
            images per second and device, seconds left.

        Raises:
            FloatingPointError: the loss or gradient of an earlier step is not finite.
        """
        self._pending.append((step, metrics))
        self._fetch(self._pending[:-1])
        del self._pending[:-1]
        is_due = (step - 1) % self._log_every == 0
        return self._report(step - 1) if is_due and self._window else None

    def flush(self, step: int) -> dict[str, float] | None:
        """Fetches all pending metrics, up to `step`; returns a report and raises like `add`.

        At the last step a report is always due.
        """
        is_due = step % self._log_every == 0 or step == self._total_steps
        return self._flush(step, is_due)

    def finish(self, step: int) -> dict[str, float] | None:
        """Returns a report on the steps since the last one, for a run that is stopped at `step`."""
        return self._flush(step, is_due=True)

    def _flush(self, step: int, is_due: bool) -> dict[str, float] | None:
        self._fetch(self._pending)
        self._pending.clear()
        return self._report(step) if is_due and self._window else None

    def pause(self, seconds: float) -> None:
        """Excludes time that was not training (evaluation, saving) from the speed."""
        self._paused += seconds

    def _fetch(self, pending: list[tuple[int, Any]]) -> None:
        for step, scalars in jax.device_get(pending):
            values = {name: float(value) for name, value in scalars.items()}
            if not all(map(math.isfinite, values.values())):
                found = ", ".join(f"{name} {value:g}" for name, value in values.items())
                raise FloatingPointError(
                    f"step {step} is not finite ({found}); the last good checkpoint is kept. Try a "
                    "smaller lr, a longer warm-up, grad_clip=1.0 or dtype=float32, in a new workdir"
                )
            self._window.append(values)
            self._newest, self._loss, self._fetched = step, values["loss"], time.perf_counter()
        if pending and self._compiled is not None:
            log.info(
                "step %d/%d is done: it took %.1f s, after %.1f s of compiling",
                self._newest, self._total_steps, self._fetched - self._since, self._compiled,
            )  # fmt: skip
            self._compiled = None

    def newest(self) -> str:
        """Says which step was the last, its loss, and how long ago that was; in any thread."""
        ago = time.perf_counter() - self._fetched
        if not self._newest:
            return f"the first step, for {ago:.0f} s so far"
        step = f"step {self._newest}/{self._total_steps}"
        return f"{step}  loss {self._loss:.4f}  {ago:.0f} s ago"

    def _report(self, step: int) -> dict[str, float]:
        now = time.perf_counter()
        seconds = max(now - self._since - self._paused, 1e-9) / len(self._window)
        means = {
            name: sum(values[name] for values in self._window) / len(self._window)
            for name in self._window[0]
        }
        self._window.clear()
        self._since, self._paused = now, 0.0
        return means | {
            "images_per_second_per_device": self._per_device / seconds,
            "seconds_left": (self._total_steps - step) * seconds,
        }


class Profile:
    """A context manager that profiles some steps for TensorBoard, in WORKDIR/plugins/profile."""

    SKIPPED = 10  # steps before the profile, for compiling and warming up

    def __init__(self, workdir: AnyPath, start: int, steps: int):
        """Plans to record `steps` steps; 0 for no profile."""
        self._workdir, self._first, self._last = workdir, start + self.SKIPPED, None
        if steps:
            self._last = self._first + steps
        self._running = False
        self._local: tempfile.TemporaryDirectory | None = None

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *error) -> None:
        self._stop()

    def after(self, step: int) -> None:
        """Starts or stops recording; must be called after each step was started."""
        if self._last and step == self._first:
            if is_address(self._workdir):  # JAX writes to disks only
                self._local = tempfile.TemporaryDirectory(prefix="mlp_mixer_profile_")
            jax.profiler.start_trace(self._local.name if self._local else str(self._workdir))
            self._running = True
        elif step == self._last:
            self._stop()

    def _stop(self) -> None:
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
            if self._local:
                with self._local:
                    upload_tree(self._local.name, self._workdir)
            log.info("a profile is in %s; tensorboard --logdir shows it", self._workdir)


class View(contextlib.AbstractContextManager, Protocol):
    """Shows a run to somebody who watches it, from when it is entered; in process 0 only."""

    @property
    def bar(self) -> io.TextIOBase:
        """A file for the progress bar."""

    def report(self, line: str) -> None:
        """Shows a report in words, in place of the one before."""

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Adds scalars to what is shown, without keeping training waiting."""


@contextlib.contextmanager
def bar(start: int, total: int, view: View | None = None) -> Iterator[tqdm]:
    """Shows a progress bar in a view, else in a terminal or notebook, with log lines above it."""
    if view:
        with tqdm(
            total=total, initial=start, unit="step", ncols=90, mininterval=0.5, file=view.bar
        ) as shown:
            yield shown
        return
    # A notebook's stderr is not a terminal, but shows the bar.
    watched = (sys.stderr.isatty() or in_notebook()) and jax.process_index() == 0
    loggers = [logging.getLogger(name) for name in ("mlp_mixer", None)]
    to_console = [
        logger
        for logger in loggers
        if any(getattr(h, "stream", None) in (sys.stdout, sys.stderr) for h in logger.handlers)
    ]
    with (
        tqdm(
            total=total, initial=start, unit="step", dynamic_ncols=True, leave=False,
            disable=not watched,
        ) as shown,
        logging_redirect_tqdm(to_console) if watched else contextlib.nullcontext(),
    ):  # fmt: skip
        yield shown


def log_line(step: int, total: int, values: dict[str, float]) -> str:
    """Formats a report as one line for the log."""
    minutes, seconds = divmod(round(values["seconds_left"]), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"step {step}/{total}  loss {values['loss']:.4f}  accuracy {values['accuracy']:.3f}  "
        f"lr {values['lr']:.2e}  {values['images_per_second_per_device']:.0f} images/s/device  "
        f"{hours}:{minutes:02}:{seconds:02} left"
    )
