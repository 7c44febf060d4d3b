"""The scalars of a run: WORKDIR/metrics.jsonl, and events for TensorBoard."""

import json
import logging
import time
from pathlib import Path

import jax
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2, summary_pb2

from mlp_mixer.runtime.storage import write_text

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
        # In one go: being killed here must not lose what an earlier run has written.
        write_text(path, whole)
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
