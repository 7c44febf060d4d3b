"""What a run tells: log lines, a progress bar, TensorBoard events and WORKDIR/metrics.jsonl."""

import contextlib
import json
import logging
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from tensorboardX import SummaryWriter
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

log = logging.getLogger(__name__)

FILE = "metrics.jsonl"


class Writer:
    """Writes scalars of a step to metrics.jsonl and TensorBoard events; process 0 only.

    metrics.jsonl has one JSON object a line, with the step and any of the scalars.
    """

    def __init__(self, workdir: Path, start: int):
        """Lines of steps after `start`, left by a run that was killed, are cut away."""
        self._file = None
        if jax.process_index():
            return
        path = workdir / FILE
        kept = [line for line in read(workdir) if line["step"] <= start] if path.exists() else []
        whole = "".join(json.dumps(line) + "\n" for line in kept)
        # Replaced in one go: being killed here must not lose what an earlier run has written.
        temporary = path.with_suffix(".tmp")
        temporary.write_text(whole)
        os.replace(temporary, path)
        self._file = path.open("a")
        self._events = SummaryWriter(str(workdir), purge_step=start + 1 if start else None)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Records scalars, each under its name.

        Raises:
            OSError: they cannot be written; names the file.
        """
        if self._file is None:
            return
        try:
            self._file.write(json.dumps({"step": step, **values}) + "\n")
            self._file.flush()
        except OSError as error:
            raise OSError(f"{self._file.name} cannot be written ({error.strerror})") from error
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Writes out what is still held back."""
        if self._file is None:
            return
        for file in (self._file, self._events):
            try:
                file.close()
            except OSError as error:  # a full disk, which must not hide what ended the run
                log.warning("the last metrics are lost (%s)", error.strerror)
                # Or tensorboardX tries again at exit, and prints what its threads think of it.
                self._events.file_writer.event_writer._closed = True


def read(workdir: str | Path) -> list[dict[str, float]]:
    """The lines of a run's metrics.jsonl; one cut short by a kill is left out."""
    lines = []
    for line in (Path(workdir) / FILE).read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            log.warning("%s: left out a line that was cut short: %r", workdir, line[:80])
    return lines


def evaluated(workdir: str | Path, step: int) -> bool:
    """Whether a run's metrics.jsonl has results of an evaluation at this step."""
    names = {name for line in read(workdir) if line["step"] == step for name in line}
    return any(name != "step" and not name.startswith("train/") for name in names)


class Meter:
    """Fetches the metrics of each step, one step late, and watches speed and sanity.

    Fetching late lets the device work on the next step meanwhile. Fetching every step bounds the
    work in flight: collectives on CPU deadlock otherwise, and a CPU is slower with a long queue.
    """

    def __init__(self, batch_size: int, total_steps: int, log_every: int):
        """A report is due every `log_every` steps."""
        self._per_device = batch_size / jax.device_count()
        self._total_steps, self._log_every = total_steps, log_every
        self._pending: list[tuple[int, Any]] = []  # steps and metrics, still on the devices
        self._window: list[dict[str, float]] = []  # metrics of the steps since the last report
        self._since, self._paused = time.perf_counter(), 0.0

    def add(self, step: int, metrics: Any) -> dict[str, float] | None:
        """Takes the metrics of the update that led to `step`; they may still be on their way.

        Returns:
            A report on the steps up to the one before, if that is when it was due: means since the
            last report, images per second and device, seconds left.

        Raises:
            FloatingPointError: an earlier step's loss or gradient is not finite.
        """
        self._pending.append((step, metrics))
        due = (step - 1) % self._log_every == 0 and step > 1
        self._fetch(self._pending[:-1])
        del self._pending[:-1]
        return self._report(step - 1) if due and self._window else None

    def flush(self) -> None:
        """Fetches everything that is pending; raises as `add` does."""
        self._fetch(self._pending)
        self._pending.clear()

    def finish(self, step: int) -> dict[str, float] | None:
        """A report on what came after the last one, where the run ends at `step`."""
        self.flush()
        return self._report(step) if self._window else None

    def pause(self, seconds: float) -> None:
        """Takes time that was not training (evaluation, saving) out of the speed."""
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
    """Records some steps for TensorBoard's profile tab, into WORKDIR/plugins/profile."""

    SKIPPED = 10  # steps before: compiling and warming up

    def __init__(self, workdir: Path, start: int, steps: int):
        """Records `steps` steps, none for 0."""
        self._workdir, self._first, self._last = workdir, start + self.SKIPPED, None
        if steps:
            self._last = self._first + steps
        self._running = False

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *error) -> None:
        self._stop()

    def after(self, step: int) -> None:
        """To be called after each step was started."""
        if self._last and step == self._first:
            jax.profiler.start_trace(str(self._workdir))
            self._running = True
        elif step == self._last:
            self._stop()

    def _stop(self) -> None:
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
            log.info("a profile is in %s; tensorboard --logdir shows it", self._workdir)


@contextlib.contextmanager
def progress(start: int, total: int) -> Iterator[tqdm]:
    """A progress bar where a person watches; log lines then appear above it."""
    watched = sys.stderr.isatty() and jax.process_index() == 0
    with (
        tqdm(
            total=total, initial=start, unit="step", dynamic_ncols=True, leave=False,
            disable=not watched,
        ) as bar,
        logging_redirect_tqdm([logging.getLogger("mlp_mixer")])
        if watched
        else contextlib.nullcontext(),
    ):  # fmt: skip
        yield bar


def log_line(step: int, total: int, values: dict[str, float]) -> str:
    """One line for people."""
    minutes, seconds = divmod(round(values["seconds_left"]), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"step {step}/{total}  loss {values['loss']:.4f}  accuracy {values['accuracy']:.3f}  "
        f"lr {values['lr']:.2e}  {values['images_per_second_per_device']:.0f} images/s/device  "
        f"{hours}:{minutes:02}:{seconds:02} left"
    )
