"""What the workdir of a run says of it, in numbers and in words."""

import datetime
import json
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import ml_collections

from mlp_mixer.analysis import curves
from mlp_mixer.models.init import shapes
from mlp_mixer.runs import checkpoints, folder, metrics, starts
from mlp_mixer.runtime.storage import AnyPath, as_path
from mlp_mixer.training import fields
from mlp_mixer.training.recipe import make_model

UNKNOWN = "not known"


@dataclass(frozen=True)
class RunFacts:
    """What the workdir of a run says.

    Attributes:
        workdir: the folder.
        name: what it is called in the report.
        config: the config of its newest start.
        lines: its metrics.
        starts: how it was started.
        class_names: the names of the model's outputs.
        examples: the number of training examples; None if it is not known.
    """

    workdir: AnyPath
    name: str
    config: ml_collections.ConfigDict
    lines: curves.Lines
    starts: list[dict[str, Any]]
    class_names: tuple[str, ...]
    examples: int | None

    @cached_property
    def module(self) -> Any:
        """The model."""
        return make_model(self.config, len(self.class_names))

    @property
    def evaluations(self) -> curves.Lines:
        """The lines of its metrics that come from evaluations."""
        return [line for line in self.lines if curves.evaluations(line)]

    @property
    def step(self) -> int:
        """The last step in its metrics."""
        return int(max((line["step"] for line in self.lines), default=0))

    @property
    def trainings(self) -> list[dict[str, Any]]:
        """The starts that trained; a finished run that is started again is only evaluated."""
        return [x for x in self.starts if (x.get("after_step") or 0) < self.step] or self.starts

    @property
    def speed(self) -> float | None:
        """Images per second and device in training; None if it is not known."""
        speeds = [x for _, x in curves.series(self.lines, "train/images_per_second_per_device")]
        return statistics.median(speeds) if speeds else None


def read(workdir: str, name: str) -> RunFacts:
    """Reads the workdir of a run, which is called `name` in what is made of it.

    Raises:
        FileNotFoundError: the folder is not the workdir of a run.
    """
    path = as_path(workdir)
    config = fields.restored(folder.read_config(path))
    data = path / folder.DATA_FILE
    return RunFacts(
        path,
        name,
        config,
        metrics.read(path) if (path / metrics.FILE).exists() else [],
        starts.read(path),
        folder.read_classes(path),
        json.loads(data.read_text())["examples"] if data.exists() else None,
    )


def model(run: RunFacts) -> str:
    """Says which model it is, and how large."""
    own = {name: x for name, x in run.config.model.to_dict().items() if x}
    size = ", ".join(f"{name} {shown(x)}" for name, x in own.items())
    return (
        f"{run.config.architecture} for {shown(run.config.image_size)} pixels, "
        f"{count(run.module):,} parameters ({size})"
    )


def count(module: Any) -> int:
    """Returns the number of a module's parameters."""
    return sum(math.prod(shape) for shape in shapes(module).values())


def data(run: RunFacts) -> str:
    """Says what the run was trained on."""
    data, examples = run.config.data, f"{run.examples:,} images" if run.examples else "images"
    return f"{data.source}, {data.train_split}: {examples} of {len(run.class_names):,} classes"


def progress(run: RunFacts) -> str:
    """Says how far the run has come."""
    steps = f"{run.step:,} steps of {run.config.batch_size:,} images"
    if run.examples:
        steps += f" ({run.step * run.config.batch_size / run.examples:.3g} epochs)"
    if folder.is_finished(run.workdir):
        return f"finished, {steps}"
    saved = checkpoints.latest_step(run.workdir)
    return f"not finished, {steps}; " + (f"newest checkpoint: {saved:,}" if saved else "none saved")


def _of_start(run: RunFacts, tell: Callable[[dict[str, Any]], str]) -> str:
    """Says something of the newest start that trained, if it is recorded."""
    try:
        return tell(run.trainings[-1])
    except (LookupError, TypeError):
        return UNKNOWN


def versions(run: RunFacts) -> str:
    """Lists the packages of the newest start that trained."""

    def tell(start: dict[str, Any]) -> str:
        packages = {"mlp_mixer": start["version"], "Python": start["python"], **start["packages"]}
        return ", ".join(f"{name} {version}" for name, version in packages.items() if version)

    return _of_start(run, tell)


def devices(run: RunFacts) -> str:
    """Says on what the newest start that trained ran."""

    def tell(start: dict[str, Any]) -> str:
        several = f", in {start['processes']} processes" if start["processes"] > 1 else ""
        return f"{start['devices']} x {start['device']}{several}"

    return _of_start(run, tell)


def memory(run: RunFacts) -> str:
    """Says how much memory the devices needed."""
    peaks = [start["peak_bytes"] for start in run.trainings if start.get("peak_bytes")]
    return f"{max(peaks) / 2**30:.3g} GiB at most on a device" if peaks else UNKNOWN


def time(run: RunFacts) -> tuple[float | None, str]:
    """Returns the device-hours of a run, and the time that it took in words."""
    try:
        spans = [
            (datetime.datetime.fromisoformat(start["ended"])
             - datetime.datetime.fromisoformat(start["started"])).total_seconds()
            for start in run.trainings
        ]  # fmt: skip
        counts = [start["devices"] for start in run.trainings]
    except (KeyError, TypeError, ValueError):  # a start was killed, and nobody knows when
        spans = []
    if spans and not run.trainings[0].get("after_step"):  # else there were some before the first
        hours = sum(span * count for span, count in zip(spans, counts, strict=True)) / 3600
        times = f", in {len(spans)} starts" if len(spans) > 1 else ""
        return hours, f"{_duration(sum(spans))} from start to end{times}; {hours:.3g} device-hours"
    if not run.speed:
        return None, UNKNOWN
    seconds = run.step * run.config.batch_size / run.speed
    return seconds / 3600, f"{seconds / 3600:.3g} device-hours, of training steps alone"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def cost(run: RunFacts, price: float) -> str:
    """Says what the device-hours of a run cost."""
    hours = time(run)[0]
    return UNKNOWN if hours is None else f"{hours * price:.2f}, at {price:g} a device-hour"


def shown(x: Any) -> str:
    """Formats the value of a field."""
    if x is None or x in ("", ()):
        return "-"
    if isinstance(x, tuple | list):
        is_size = len(x) == 2 and all(isinstance(part, int) for part in x)
        return (" x " if is_size else ", ").join(map(str, x))
    return f"{x:g}" if isinstance(x, float) else str(x)
