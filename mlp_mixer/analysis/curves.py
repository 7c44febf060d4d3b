"""Learning curves of one or more runs, and how they ended.

Each scalar is a panel, with the means that training reports (pale) and every evaluation that has
it. Classification has loss, accuracy and top5; few-shot has 5shot and the like.
"""

import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mlp_mixer.analysis import figures
from mlp_mixer.runs import metrics
from mlp_mixer.runs.folder import CONFIG_FILE
from mlp_mixer.runtime.storage import as_path, named

log = logging.getLogger(__name__)

LINES = ("-", "--", ":", "-.")  # one for each ten runs, as there are ten colours
SHARES = ("accuracy", "top5", "shot")  # endings of scalars that are shares of images
NO_METRICS = "{} has no metrics yet: config.log_every_steps says when training reports some"

Lines = list[dict[str, float]]


def draw(
    workdirs: str | PathLike | Sequence[str | PathLike],
    scalars: Sequence[str] = ("loss", "accuracy"),
) -> Figure:
    """Draws scalars of runs against the step, one panel per scalar.

    Args:
        workdirs: the run, or several. One that has no metrics yet is left out, with a warning.
        scalars: short names, such as "loss", of what training and evaluations report.

    Raises:
        FileNotFoundError: a folder is not the workdir of a run.
        ValueError: no run has metrics yet, or none has such a scalar.
    """
    return read_curves(workdirs, scalars).figure()


@dataclass(frozen=True)
class Curves:
    """Scalars of several runs.

    Attributes:
        runs: workdir -> lines of its metrics.jsonl.
        scalars: short name of a scalar, such as "loss" -> its full names, such as "train/loss" and
            "test/loss".
    """

    runs: dict[str, Lines]
    scalars: dict[str, list[str]]

    def rows(self) -> list[dict[str, Any]]:
        """Returns every point, with the keys run, scalar, step and value."""
        names = short_names(list(self.runs))
        return [
            dict(run=names[workdir], scalar=name, step=step, value=value)
            for full_names in self.scalars.values()
            for workdir, lines in self.runs.items()
            for name in full_names
            for step, value in series(lines, name)
        ]

    def summary(self) -> list[list[str]]:
        """Returns the last evaluation of each run as a table, with a heading.

        A run without evaluations has its last step, and empty cells.
        """
        full = [name for names in self.scalars.values() for name in names]
        names = [name for name in full if not name.startswith("train/")]
        names.sort(key=lambda name: name.endswith("/loss"))  # accuracies first
        rows = [["run", "step", *(name.replace("/", " ") for name in names)]]
        for workdir, lines in self.runs.items():
            last = ([line for line in lines if evaluations(line)] or lines)[-1]
            cells = [formatted(name, last.get(name)) for name in names]
            rows.append([workdir, str(last["step"]), *cells])
        return rows

    def figure(self, new: Callable = figures.new) -> Figure:
        """Draws one panel per scalar, with one colour or line per run, in what `new` makes."""
        names = short_names(list(self.runs))
        figure, axes = new(1, len(self.scalars), figsize=(5.5 * len(self.scalars), 4))
        looks: list[dict[str, Any]] = [
            dict(color=f"C{i % 10}", ls=LINES[i // 10 % 4]) for i in range(len(self.runs))
        ]
        # Training means are pale, and each evaluation has its own marker.
        full = [name for full_names in self.scalars.values() for name in full_names]
        parts = dict.fromkeys(name.rpartition("/")[0] for name in full)
        markers = itertools.cycle("os^Dv")
        styles = {
            part: dict(alpha=0.45) if part == "train" else dict(marker=next(markers), ms=4)
            for part in parts
        }
        for ax, (scalar, full_names) in zip(axes[0], self.scalars.items(), strict=True):
            for look, lines in zip(looks, self.runs.values(), strict=True):
                for name in full_names:
                    if points := series(lines, name):
                        style = styles[name.rpartition("/")[0]]
                        if len(points) == 1:  # no line joins it to another
                            style = dict(marker="o", ms=4) | style
                        ax.plot(*zip(*points, strict=True), **look, **style)
            ax.set(title=scalar, xlabel="step")
            ax.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
            if scalar.endswith(SHARES):
                figures.percent(ax)
            figures.clean(ax)
        handles = [Line2D([], [], lw=3, **look) for look in looks]
        handles += [Line2D([], [], color="0.3", **style) for style in styles.values()]
        labels = [*(names[workdir] for workdir in self.runs), *styles]
        figure.legend(handles, labels, loc="outside lower center", ncols=8, frameon=False)
        return figure


def read_curves(
    workdirs: str | PathLike | Sequence[str | PathLike],
    scalars: Sequence[str] = ("loss", "accuracy"),
) -> Curves:
    """Reads the scalars of runs; see `draw`."""
    if isinstance(workdirs, str | PathLike):
        workdirs = [workdirs]
    every = {name: _read(name) for name in [fspath(workdir) for workdir in workdirs]}
    runs = {workdir: lines for workdir, lines in every.items() if lines}
    empty = [workdir for workdir in every if workdir not in runs]
    if not runs:
        raise ValueError(NO_METRICS.format(", ".join(empty)) if empty else "give a run to draw")
    for workdir in empty:  # one that has just begun must not cost the figure of the others
        log.warning("%s; it is left out", NO_METRICS.format(workdir))
    return Curves(runs, {scalar: _names(runs, scalar) for scalar in scalars})


def read(workdir: str | PathLike) -> Lines:
    """Reads the metrics of a run, evaluated or not.

    Raises:
        FileNotFoundError: the folder is not the workdir of a run.
        ValueError: the run has no metrics yet.
    """
    if not (lines := _read(fspath(workdir))):
        raise ValueError(NO_METRICS.format(fspath(workdir)))
    return lines


def _read(workdir: str) -> Lines:
    """Does the same as `read`, but returns no lines for a run without metrics."""
    path = as_path(workdir)
    if (path / metrics.FILE).exists():
        return metrics.read(workdir)
    if (path / CONFIG_FILE).exists():  # a run that was stopped before it could write any
        return []
    raise FileNotFoundError(f"{workdir} is not the workdir of a run: it has no {metrics.FILE}")


def series(lines: Lines, name: str) -> list[tuple[float, float]]:
    """Returns (step, value) for each line that has a scalar."""
    return [(line["step"], line[name]) for line in lines if name in line]


def short_names(workdirs: list[str]) -> dict[str, str]:
    """Returns the last folder of each path, or as many as are needed to tell the paths apart."""
    paths = {workdir: Path(named(as_path(workdir))) for workdir in workdirs}
    for depth in range(1, max(len(path.parts) for path in paths.values()) + 1):
        names = {workdir: "/".join(path.parts[-depth:]) for workdir, path in paths.items()}
        if len(set(names.values())) == len(set(paths.values())):
            break
    return names


def formatted(name: str, value: float | None) -> str:
    """Formats the value of a scalar; "" if there is none."""
    return "" if value is None else f"{value:{'.2%' if name.endswith(SHARES) else '.4f'}}"


def evaluations(line: dict[str, float]) -> list[str]:
    """Returns the names of a line's scalars that come from evaluations."""
    return [name for name in line if "/" in name and not name.startswith("train/")]


def hint(lines: Lines) -> str:
    """Ends the message that a run lacks a scalar: what --scalar may be instead."""
    if any(evaluations(line) for line in lines):
        return "; --scalar names another evaluation"
    return ": it has not been evaluated yet"


def _names(runs: dict[str, Lines], scalar: str) -> list[str]:
    """Returns the full names of a scalar, such as train/loss and test/loss."""
    every = dict.fromkeys(name for lines in runs.values() for line in lines for name in line)
    found = [name for name in every if name.rpartition("/")[2] == scalar]
    if not found:
        have = sorted({name.rpartition("/")[2] for name in every} - {"step", "examples"})
        raise ValueError(f"no run has the scalar {scalar!r}; there are {', '.join(have)}")
    return found
