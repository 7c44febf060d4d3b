"""Accuracy against training compute and throughput, as in figures 2 and 3 of the paper.

The paper's points are accuracies after fine-tuning, against TPUv3 core-days of pretraining and
images per second per core of inference. A run's point comes from its workdir: the last value of a
scalar; device-days, which are the images seen divided by the training speed (the median of the
images per second per device in metrics.jsonl); and that speed itself. Compare device-days only
between runs on the same kind of device. The training FLOPs of a run are those of forward passes of
its model, and of its teacher if it has one, as XLA counts them before optimisation, as often as
`arithmetic.of_training` says, times the images seen.
"""

import collections
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any, NamedTuple

import jax
import ml_collections
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mlp_mixer.analysis import arithmetic, curves, figures
from mlp_mixer.analysis.table_3 import TABLE_3, Row
from mlp_mixer.models.init import init
from mlp_mixer.runs.folder import read_classes, read_config
from mlp_mixer.training import fields, teacher
from mlp_mixer.training.recipe import make_model

FAMILIES = {"Mixer": "C3", "ViT": "C0", "BiT": "C2"}  # family -> colour
PAPER_ACCURACIES = {
    "imagenet": "ImageNet top-1",
    "real": "ImageNet ReaL top-1",
    "avg5": "mean accuracy of 5 tasks",
}
ARCHITECTURES = {"mixer": "Mixer", "vit": "ViT", "bit": "BiT"}


class Point(NamedTuple):
    """One model; its accuracy is a share, not in per cent."""

    name: str
    family: str
    data: str
    accuracy: float
    device_days: float
    images_per_second_per_device: float
    training_flops: float | None = None


@dataclass(frozen=True)
class Tradeoff:
    """Points of runs, of the paper, or both.

    Attributes:
        points: the models.
        accuracy: label of the accuracy axis.
        compute: the field of a point that is drawn as compute, and the label of its axis.
        speed: label of the axis of images_per_second_per_device.
    """

    points: list[Point]
    accuracy: str
    compute: tuple[str, str]
    speed: str

    def rows(self) -> list[dict[str, Any]]:
        """Returns the points, with their fields as columns."""
        return [point._asdict() for point in self.points]

    def summary(self) -> list[list[str]]:
        """Returns the points as a table of formatted cells, with a heading."""
        return [["model", "data", "accuracy", "device-days", "images/s/device"]] + [
            [p.name, p.data, f"{p.accuracy:.2%}", f"{p.device_days:.3g}",
             f"{p.images_per_second_per_device:.0f}"]
            for p in self.points
        ]  # fmt: skip

    def figure(self) -> Figure:
        """Draws accuracy against compute, and against speed."""
        figure, axes = figures.new(1, 2, figsize=(11, 4.6), sharey=True)
        field, label = self.compute
        draw_points(axes[0, 0], self.points, field, label, more_is_better=False)
        speed = "images_per_second_per_device"
        draw_points(axes[0, 1], self.points, speed, self.speed, more_is_better=True)
        axes[0, 0].set_ylabel(self.accuracy)
        handles, labels = _legend(self.points)
        figure.legend(
            handles, labels, loc="outside lower center", ncols=8, frameon=False, fontsize=9
        )
        return figure


def read_tradeoff(
    workdirs: Sequence[str | PathLike] = (),
    scalar: str = "test/accuracy",
    *,
    paper: bool = False,
    paper_accuracy: str = "imagenet",
    flops: bool = False,
) -> Tradeoff:
    """Collects the points of runs, and those of the paper's Table 3.

    Args:
        workdirs: runs that have been evaluated.
        scalar: name of their accuracy.
        paper: whether to add the paper's points; without workdirs they are always added.
        paper_accuracy: a key of PAPER_ACCURACIES.
        flops: whether compute is given in FLOPs, which the paper's tables do not have.

    Raises:
        FileNotFoundError: a folder is not the workdir of a run.
        ValueError: a run has no such scalar, or `flops` is combined with the paper's points or the
            run's teacher cannot be read.
    """
    if flops and (paper or not workdirs):
        raise ValueError("flops are known for runs only: the paper's tables have core-days")
    paths = [fspath(workdir) for workdir in workdirs]
    names = curves.short_names(paths) if paths else {}
    points = [of_run(path, scalar, names[path], flops) for path in paths]
    accuracy, speed = scalar, "images/s/device in training"
    compute = "device_days", "training (device-days)"
    if flops:
        compute = "training_flops", "training (floating-point operations)"
    if not workdirs:
        accuracy, speed = PAPER_ACCURACIES[paper_accuracy], "images/s/core of inference"
        compute = "device_days", "pretraining (TPUv3 core-days)"
    elif paper:  # whose numbers are of other things
        accuracy += f"\n(paper: {PAPER_ACCURACIES[paper_accuracy]})"
        speed += "\n(paper: inference on a TPUv3 core)"
        compute = "device_days", f"{compute[1]}\n(paper: pretraining, TPUv3 core-days)"
    if paper or not workdirs:
        points += of_paper(paper_accuracy)
    return Tradeoff(points, accuracy, compute, speed)


def of_paper(accuracy: str = "imagenet") -> list[Point]:
    """Returns the points of all rows of Table 3 that have this accuracy."""
    lengths = collections.Counter((row.model, row.data, row.px) for row in TABLE_3)

    def name(row: Row) -> str:
        size = "" if row.px == 224 else f" @{row.px}"
        several = lengths[row.model, row.data, row.px] > 1
        return row.model + size + (f", {row.epochs} epochs" if several else "")

    return [
        Point(
            name=name(row),
            family=row.model.partition("-")[0],
            data=row.data,
            accuracy=getattr(row, accuracy) / 100,
            device_days=row.core_days * 1000,
            images_per_second_per_device=row.throughput,
        )
        for row in TABLE_3
        if getattr(row, accuracy) is not None
    ]


def of_run(workdir: str | PathLike, scalar: str, name: str, needs_flops: bool = False) -> Point:
    """Reads the point of a run that has been evaluated.

    Its FLOPs are None where the run has a teacher that cannot be read any more.

    Raises:
        FileNotFoundError: the folder is not the workdir of a run.
        ValueError: the run has no such scalar, reports no speed, or lacks the FLOPs that are
            needed.
    """
    lines = curves.read(workdir)
    config = fields.restored(read_config(workdir))
    values = curves.series(lines, scalar)
    speeds = [value for _, value in curves.series(lines, "train/images_per_second_per_device")]
    if not values or not speeds:
        missing = scalar if speeds else "train/images_per_second_per_device"
        raise ValueError(f"{workdir} has no {missing}{curves.hint(lines)}")
    step, accuracy = values[-1]
    images, speed = step * config.batch_size, statistics.median(speeds)
    try:
        flops = images * training_flops(config, len(read_classes(workdir)))
    except ValueError as error:
        if needs_flops:
            raise ValueError(f"{workdir}: {error}") from error
        flops = None
    return Point(
        name=name,
        family=ARCHITECTURES[config.architecture],
        data=config.data.source.partition(":")[2].rpartition("/")[2] or config.data.source,
        accuracy=accuracy,
        device_days=images / speed / 86400,
        images_per_second_per_device=speed,
        training_flops=flops,
    )


def training_flops(config: ml_collections.ConfigDict, num_classes: int) -> float:
    """Counts the floating-point operations of a config's training for one image.

    Raises:
        ValueError: the config has a teacher, and it cannot be read.
    """
    teacher_forward = 0.0
    if config.teacher:
        try:
            teacher_forward = forward_flops(teacher.module_of(config.teacher))
        except (ValueError, OSError) as error:
            raise ValueError(
                f"the FLOPs of teacher={config.teacher} are among those of training, and are not "
                f"known ({error}); put the teacher back, or draw device-days, without --flops"
            ) from error
    forward = forward_flops(make_model(config, num_classes))
    return arithmetic.of_training(config, forward, teacher_forward)


def forward_flops(module: Any) -> float:
    """Counts the floating-point operations of a model for one image, by XLA's analysis."""
    images = jax.ShapeDtypeStruct((1, *module.image_size, module.image_channels), "float32")
    params = jax.eval_shape(lambda: init(module))
    lowered = jax.jit(module.apply).lower({"params": params}, images)
    costs: Any = lowered.cost_analysis()
    return costs["flops"]


def draw_points(ax: Axes, points: list[Point], x: str, label: str, more_is_better: bool) -> None:
    """Draws accuracy against another field, on a logarithmic scale if its values differ tenfold.

    For each family and data set, a line joins the models on the Pareto frontier.
    """
    groups: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for point in points:
        place = getattr(point, x), point.accuracy
        groups.setdefault((point.family, point.data), []).append(place)
    markers = _markers(points)
    for (family, data), places in groups.items():
        color = FAMILIES[family]
        ax.plot(*zip(*places, strict=True), ls="", ms=6, color=color, marker=markers[data])
        best = frontier(places, more_is_better)
        ax.plot(*zip(*best, strict=True), color=color, lw=1, alpha=0.5, zorder=1)
    ax.set_xlabel(label)
    ax.margins(x=0.12, y=0.08)
    values = [getattr(point, x) for point in points]
    if max(values) > 10 * min(values):
        ax.set_xscale("log")
        if x != "training_flops":  # those are labelled as powers of ten
            ax.xaxis.set_major_formatter("{x:g}")
    figures.percent(ax)
    figures.clean(ax)
    figures.label(
        ax,
        list(zip(values, (point.accuracy for point in points), strict=True)),
        [point.name.removeprefix(f"{point.family}-") for point in points],
    )


def frontier(places: list[tuple[float, float]], more_is_better: bool) -> list[tuple[float, float]]:
    """Returns the Pareto frontier of (x, accuracy), sorted by x."""
    best, highest = [], -1.0
    for x, accuracy in sorted(places, key=lambda p: (-p[0] if more_is_better else p[0], -p[1])):
        if accuracy > highest:
            best.append((x, accuracy))
            highest = accuracy
    return sorted(best)


def _markers(points: list[Point]) -> dict[str, str]:
    """Returns a marker for each data set."""
    every = dict.fromkeys(point.data for point in points)
    return {data: "os^Dv<>P*X"[i % 10] for i, data in enumerate(every)}


def _legend(points: list[Point]) -> tuple[list[Any], list[str]]:
    """Returns legend entries for each family (by colour) and each data set (by marker)."""
    families = [family for family in FAMILIES if family in {point.family for point in points}]
    handles = [Line2D([], [], lw=4, color=FAMILIES[family]) for family in families]
    markers = _markers(points)
    handles += [Line2D([], [], marker=marker, ls="", color="0.3") for marker in markers.values()]
    return handles, [*families, *markers]
