"""Draws the learning curves of one or more runs and prints how they ended.

    python -m mlp_mixer curves WORKDIR... [--scalars loss accuracy] --out=curves.png

Each scalar is a panel, with the means that training reports (pale) and every evaluation that has
it: loss, accuracy and top5 of classification, 5shot of few-shot. --numbers writes the points as a
CSV file: run, scalar, step, value.
"""

import argparse
import itertools
from pathlib import Path

from mlp_mixer import cli
from mlp_mixer.training import metrics

SHARES = ("accuracy", "top5", "shot")  # endings of scalars that are shares of images


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workdirs", nargs="+", metavar="WORKDIR")
    parser.add_argument("--scalars", nargs="+", default=["loss", "accuracy"], metavar="NAME")
    parser.add_argument("--out", default="curves.png", help="file to draw to")
    parser.add_argument("--numbers", metavar="FILE.csv", help="write the numbers behind the figure")


def main(args: argparse.Namespace) -> None:
    from mlp_mixer.analysis import figures

    runs = {workdir: read(workdir) for workdir in args.workdirs}
    scalars = {scalar: _names(runs, scalar) for scalar in args.scalars}
    names = short_names(args.workdirs)
    figure, axes = figures.plt.subplots(
        1, len(scalars), figsize=(5.5 * len(scalars), 4), squeeze=False, layout="constrained"
    )
    # The means of training are pale, each evaluation has its own marker.
    parts = dict.fromkeys(name.rpartition("/")[0] for full in scalars.values() for name in full)
    markers = itertools.cycle("os^Dv")
    styles = {
        part: dict(alpha=0.45) if part == "train" else dict(marker=next(markers), ms=4)
        for part in parts
    }
    rows = []
    for ax, (scalar, full_names) in zip(axes[0], scalars.items(), strict=True):
        for number, (workdir, lines) in enumerate(runs.items()):
            for full_name in full_names:
                part = full_name.rpartition("/")[0]
                if points := series(lines, full_name):
                    ax.plot(*zip(*points, strict=True), color=f"C{number}", **styles[part])
                    rows += [
                        dict(run=names[workdir], scalar=full_name, step=step, value=value)
                        for step, value in points
                    ]
        ax.set(title=scalar, xlabel="step")
        if scalar.endswith(SHARES):
            figures.percent(ax)
        figures.clean(ax)
    line = figures.plt.Line2D
    handles = [line([], [], color=f"C{number}", lw=3) for number in range(len(runs))]
    handles += [line([], [], color="0.3", **style) for style in styles.values()]
    labels = [*(names[workdir] for workdir in runs), *styles]
    figure.legend(handles, labels, loc="outside lower center", ncols=8, frameon=False)
    figures.save(figure, args.out)
    if args.numbers:
        figures.save_numbers(args.numbers, rows)
    print(_table(runs, scalars))
    print(f"drawn to {args.out}")


def read(workdir: str) -> list[dict[str, float]]:
    """The metrics of a run that has been evaluated.

    Raises:
        FileNotFoundError: it is no workdir.
        ValueError: there is no evaluation yet.
    """
    if not (Path(workdir) / metrics.FILE).exists():
        raise FileNotFoundError(f"{workdir} is not the workdir of a run: it has no {metrics.FILE}")
    lines = metrics.read(workdir)
    if not any(_evaluations(line) for line in lines):
        raise ValueError(f"{workdir} has not been evaluated yet")
    return lines


def series(lines: list[dict[str, float]], name: str) -> list[tuple[float, float]]:
    """(step, value) of a scalar."""
    return [(line["step"], line[name]) for line in lines if name in line]


def short_names(workdirs: list[str]) -> dict[str, str]:
    """The last folder of each path, or as many as it takes to tell them apart."""
    for depth in range(1, max(len(Path(workdir).parts) for workdir in workdirs) + 1):
        names = {workdir: "/".join(Path(workdir).parts[-depth:]) for workdir in workdirs}
        if len(set(names.values())) == len(set(workdirs)):
            break
    return names


def _evaluations(line: dict[str, float]) -> list[str]:
    return [name for name in line if "/" in name and not name.startswith("train/")]


def _names(runs: dict[str, list[dict[str, float]]], scalar: str) -> list[str]:
    """The full names of a scalar, such as train/loss and test/loss."""
    every = dict.fromkeys(name for lines in runs.values() for line in lines for name in line)
    found = [name for name in every if name.rpartition("/")[2] == scalar]
    if not found:
        have = sorted({name.rpartition("/")[2] for name in every} - {"step", "examples"})
        raise ValueError(f"no run has the scalar {scalar!r}; there are {', '.join(have)}")
    return found


def _table(runs: dict[str, list[dict[str, float]]], scalars: dict[str, list[str]]) -> str:
    """The last evaluation of each run."""
    names = [name for full in scalars.values() for name in full if not name.startswith("train/")]
    names.sort(key=lambda name: name.endswith("/loss"))  # accuracies first
    rows = [["run", "step", *(name.replace("/", " ") for name in names)]]
    for workdir, lines in runs.items():
        last = [line for line in lines if _evaluations(line)][-1]
        cells = [
            "" if name not in last else f"{last[name]:{'.2%' if name.endswith(SHARES) else '.4f'}}"
            for name in names
        ]
        rows.append([workdir, str(last["step"]), *cells])
    return cli.table(rows)
