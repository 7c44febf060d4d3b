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
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2, summary_pb2
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

log = logging.getLogger(__name__)

FILE = "metrics.jsonl"


class Writer:
    """Writes scalars of a step to metrics.jsonl and TensorBoard events; process 0 only.

    metrics.jsonl has one JSON object a line, with the step and any of the scalars. Both are on
    their way to the disk when `scalars` returns: being killed after that loses none.
    """

    def __init__(self, workdir: Path, start: int):
        """Lines of steps after `start`, left by a run that was killed, are cut away.

        What is known of the step `start` itself is not written again.
        """
        self._file, self._start = None, start
        self._there: dict[str, float] = {}
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
        # Not SummaryWriter, whose thread holds events back for minutes. A suffix, as the names of
        # two runs within a second would be the same.
        self._events = EventsWriter(str(workdir / "events"), f".{start}")
        # TensorBoard drops what earlier files say of these steps.
        began = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._events.write_event(event_pb2.Event(step=start, session_log=began))
        for line in kept:
            if line["step"] == start:
                self._there |= line
        self._there.pop("step", None)
        self._add_events(start, self._there)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Records scalars, each under its name.

        Raises:
            OSError: they cannot be written; names the file.
        """
        if step == self._start:
            values = {name: x for name, x in values.items() if self._there.get(name) != x}
        if self._file is None or not values:
            return
        try:
            self._file.write(json.dumps({"step": step, **values}) + "\n")
            self._file.flush()
            self._add_events(step, values)
        except OSError as error:
            raise OSError(f"{self._file.name} cannot be written ({error.strerror})") from error

    def _add_events(self, step: int, values: dict[str, float]) -> None:
        found = [summary_pb2.Summary.Value(tag=name, simple_value=x) for name, x in values.items()]
        self._events.write_event(
            event_pb2.Event(
                step=step, wall_time=time.time(), summary=summary_pb2.Summary(value=found)
            )
        )
        self._events.flush()

    def close(self) -> None:
        """Writes out what is still held back."""
        if self._file is None:
            return
        for file in (self._file, self._events):
            try:
                file.close()
            except OSError as error:  # a full disk, which must not hide what ended the run
                log.warning("the last metrics are lost (%s)", error.strerror)


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
        self._fetch(self._pending[:-1])
        del self._pending[:-1]
        is_due = (step - 1) % self._log_every == 0
        return self._report(step - 1) if is_due and self._window else None

    def flush(self, step: int) -> dict[str, float] | None:
        """Fetches everything that is pending, up to `step`; returns and raises what `add` does.

        At the last step a report is due.
        """
        is_due = step % self._log_every == 0 or step == self._total_steps
        return self._flush(step, is_due)

    def finish(self, step: int) -> dict[str, float] | None:
        """A report on what came after the last one, where the run ends at `step` before its end."""
        return self._flush(step, is_due=True)

    def _flush(self, step: int, is_due: bool) -> dict[str, float] | None:
        self._fetch(self._pending)
        self._pending.clear()
        return self._report(step) if is_due and self._window else None

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
    is_notebook = "ipykernel" in sys.modules  # its stderr is no terminal, but shows the bar
    watched = (sys.stderr.isatty() or is_notebook) and jax.process_index() == 0
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
        ) as bar,
        logging_redirect_tqdm(to_console) if watched else contextlib.nullcontext(),
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
