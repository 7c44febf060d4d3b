"""The scalars of a run: WORKDIR/metrics.jsonl, and events for TensorBoard."""

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import NamedTuple, TextIO

import jax
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2, summary_pb2

from mlp_mixer.runs.uploads import Uploads
from mlp_mixer.runtime.storage import AnyPath, as_path, is_address, write_text

log = logging.getLogger(__name__)

FILE = "metrics.jsonl"


class Picture(NamedTuple):
    """A PNG file, and its size in pixels."""

    png: bytes
    height: int
    width: int


class Writer:
    """Writes scalars of a step to metrics.jsonl and TensorBoard events; process 0 only.

    metrics.jsonl has one JSON object a line, with the step and any of the scalars. On a disk both
    are on their way to it when `scalars` returns: being killed after that loses none. To a bucket
    both files are uploaded as wholes, in the background; `flush` waits for that.
    """

    def __init__(self, workdir: AnyPath, start: int, check_lock: Callable[[], None] = lambda: None):
        """Opens the files, and cuts away what a run that was killed has left of later steps.

        Args:
            workdir: of the run.
            start: the step of the state that the run goes on from. What is known of that step is
                not written again.
            check_lock: called before anything is written; raises an error if the workdir's lock is
                lost.
        """
        self._lines: _Lines | None = None
        self._start, self._check_lock = start, check_lock
        self._there: dict[str, float] = {}
        if jax.process_index():
            return
        path = workdir / FILE
        kept = [line for line in read(workdir) if line["step"] <= start] if path.exists() else []
        check_lock()
        # In one go: being killed here must not lose what an earlier run has written.
        whole = "".join(json.dumps(line) + "\n" for line in kept)
        write_text(path, whole)
        uploads = Uploads(check_lock) if is_address(workdir) else None
        self._lines = _Lines(path, whole, uploads)
        # A suffix, as the names of two runs within a second would be the same.
        self._events = _Events(workdir, f".{start}", uploads)
        self._uploads = uploads
        # TensorBoard drops what earlier files say of these steps.
        began = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._events.write(event_pb2.Event(step=start, wall_time=time.time(), session_log=began))
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
        # All of them or none: readers take the last line of an evaluation for the whole of it.
        is_known = step == self._start and values.items() <= self._there.items()
        if self._lines is None or not values or is_known:
            return
        self._check_lock()
        try:
            self._lines.write(json.dumps({"step": step, **values}) + "\n")
            self._add_events(step, values)
        except OSError as error:
            if not error.strerror:  # of an upload, which says what it was
                raise
            raise OSError(f"{self._lines.path} cannot be written ({error.strerror})") from error

    def _add_events(self, step: int, values: dict[str, float]) -> None:
        found = [summary_pb2.Summary.Value(tag=name, simple_value=x) for name, x in values.items()]
        self._add_summary(step, summary_pb2.Summary(value=found))

    def _add_summary(self, step: int, found: summary_pb2.Summary) -> None:
        self._events.write(event_pb2.Event(step=step, wall_time=time.time(), summary=found))
        self._events.flush()

    def text(self, name: str, markdown: str) -> None:
        """Adds a text to TensorBoard's events, as of the step that the run goes on from.

        Raises:
            OSError: it cannot be written.
        """
        if self._lines is not None:
            self._check_lock()
            self._add_summary(self._start, summary.text(name, markdown))

    def picture(self, name: str, step: int, picture: Picture) -> None:
        """Adds a picture to TensorBoard's events.

        Raises:
            OSError: it cannot be written.
        """
        if self._lines is not None:
            self._check_lock()
            image = summary_pb2.Summary.Image(
                encoded_image_string=picture.png, height=picture.height, width=picture.width,
                colorspace=3,  # RGB
            )  # fmt: skip
            value = summary_pb2.Summary.Value(tag=name, image=image)
            self._add_summary(step, summary_pb2.Summary(value=[value]))

    def flush(self) -> None:
        """Waits until all that was recorded is in the workdir; in any thread.

        Raises:
            OSError: it cannot be written; names the file.
        """
        if self._lines is not None and self._uploads:
            self._uploads.flush()

    def close(self) -> None:
        """Writes out what is still held back."""
        if self._lines is None:
            return
        last = [self._uploads.close] if self._uploads else []
        for close in (self._lines.close, self._events.close, *last):
            try:
                close()
            except OSError as error:  # a full disk, which must not hide what ended the run
                log.warning("the last metrics are lost (%s)", error.strerror or error)


class _Lines:
    """A text file that grows: appended to on a disk, uploaded as a whole to a bucket."""

    def __init__(self, path: AnyPath, begin: str, uploads: Uploads | None):
        self.path, self._uploads = path, uploads
        self._whole = begin
        self._file: TextIO | None = None if uploads else path.open("a")

    def write(self, text: str) -> None:
        if self._uploads:
            self._whole += text
            self._uploads.put(self.path, self._whole.encode())
        if self._file:
            self._file.write(text)
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class _Events:
    """A file of TensorBoard events; that of a bucket lies on a disk, too, and is copied from it."""

    def __init__(self, folder: AnyPath, suffix: str, uploads: Uploads | None):
        self._folder, self._uploads = folder, uploads
        self._local = (
            Path(tempfile.mkdtemp(prefix="mlp_mixer_events_")) if uploads else Path(folder)
        )
        # Not SummaryWriter, whose thread holds events back for minutes.
        self._writer = EventsWriter(str(self._local / "events"), suffix)

    def write(self, event: event_pb2.Event) -> None:
        self._writer.write_event(event)

    def flush(self) -> None:
        self._writer.flush()
        self._copy()

    def _copy(self) -> None:
        if self._uploads:
            for path in self._local.iterdir():
                self._uploads.put(self._folder / path.name, path.read_bytes())

    def close(self) -> None:
        self._writer.close()
        self._copy()
        if self._uploads:
            shutil.rmtree(self._local, ignore_errors=True)


def read(workdir: str | PathLike) -> list[dict[str, float]]:
    """Reads the lines of a run's metrics.jsonl, leaving out one that a kill has cut short."""
    lines = []
    for line in (as_path(workdir) / FILE).read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            log.warning("%s: left out a line that was cut short: %r", workdir, line[:80])
    return lines


def evaluated(workdir: str | PathLike, step: int) -> bool:
    """Returns whether a run's metrics.jsonl has results of an evaluation at this step."""
    names = {name for line in read(workdir) if line["step"] == step for name in line}
    return any(name != "step" and not name.startswith("train/") for name in names)
