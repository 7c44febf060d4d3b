"""Draws the learning curves of one or more runs and prints how they ended.

python -m mlp_mixer curves WORKDIR... --out=curves.png
"""

import argparse
from pathlib import Path

from mlp_mixer.training import metrics


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workdirs", nargs="+", metavar="WORKDIR")
    parser.add_argument("--out", default="curves.png", help="file to draw to")


def main(args: argparse.Namespace) -> None:
    from mlp_mixer.analysis import figures

    runs = {workdir: _read(workdir) for workdir in args.workdirs}
    figure, (left, right) = figures.plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for number, (workdir, lines) in enumerate(runs.items()):
        name, color = Path(workdir).name, f"C{number}"
        for ax, scalar in ((left, "loss"), (right, "accuracy")):
            for part, style in (("train", dict(alpha=0.45)), ("test", dict(marker="o", ms=3))):
                points = [
                    (x["step"], x[f"{part}/{scalar}"]) for x in lines if f"{part}/{scalar}" in x
                ]
                if points:
                    ax.plot(
                        *zip(*points, strict=True), color=color, label=f"{name}, {part}", **style
                    )
    left.set(title="loss", xlabel="step")
    right.set(title="accuracy", xlabel="step")
    right.yaxis.set_major_formatter("{x:.0%}")
    for ax in (left, right):
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    right.legend(frameon=False, loc="lower right")
    figures.save(figure, args.out)

    print(f"{'run':<28}{'step':>8}{'test accuracy':>16}{'test loss':>12}")
    for workdir, lines in runs.items():
        last = [line for line in lines if "test/accuracy" in line][-1]
        row = f"{last['step']:>8}{last['test/accuracy']:>16.2%}{last['test/loss']:>12.4f}"
        print(f"{workdir:<28}{row}")
    print(f"drawn to {args.out}")


def _read(workdir: str) -> list[dict[str, float]]:
    if not (Path(workdir) / metrics.FILE).exists():
        raise FileNotFoundError(f"{workdir} is not the workdir of a run: it has no {metrics.FILE}")
    lines = metrics.read(workdir)
    if not any("test/accuracy" in line for line in lines):
        raise ValueError(f"{workdir} has not been evaluated yet")
    return lines
