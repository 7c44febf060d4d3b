"""Draws the permutation experiment (figure 4 of the paper) from runs of configs/permutation.py.

    python -m mlp_mixer permutation WORKDIR... [--scalar fewshot/5shot] --out=permutation.png

One panel for each architecture, one line for each order of the pixels. Prints how the runs ended,
and how much of the original's accuracy each permutation costs. --numbers writes the points as a CSV
file: architecture, order, step, value.

Why a Mixer should not care about shuffled patches: `undo` gives the parameters with which it
computes the same from permuted images, and they are as likely to be drawn at the start.
"""

import argparse
from typing import Any

import numpy as np

from mlp_mixer import cli
from mlp_mixer.analysis import curves
from mlp_mixer.models.mixer import MlpMixer
from mlp_mixer.training import workdir as run

NAMES = {
    "mixer": "Mixer",
    "bit": "ResNet (BiT)",
    "vit": "ViT",
    "original": "original",
    "patches": "patches + pixels inside",
    "pixels": "all pixels",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workdirs", nargs="+", metavar="WORKDIR")
    parser.add_argument("--scalar", default="fewshot/5shot", help="the accuracy that is drawn")
    parser.add_argument("--out", default="permutation.png", help="file to draw to")
    parser.add_argument("--numbers", metavar="FILE.csv", help="write the numbers behind the figure")


def main(args: argparse.Namespace) -> None:
    from mlp_mixer.analysis import figures

    runs = _read(args.workdirs, args.scalar)
    architectures = sorted({architecture for architecture, _ in runs}, key=list(NAMES).index)
    figure, axes = figures.plt.subplots(
        1, len(architectures), figsize=(4.4 * len(architectures), 3.6),
        squeeze=False, sharex=True, sharey=True, layout="constrained",
    )  # fmt: skip
    table = [["model", "order of pixels", "step", args.scalar, "against original"]]
    for ax, architecture in zip(axes[0], architectures, strict=True):
        original = runs.get((architecture, "original"), [(0, np.nan)])[-1][1]
        for number, order in enumerate(("original", "patches", "pixels")):
            if points := runs.get((architecture, order)):
                style = dict(color=f"C{number}", marker="osD"[number], ms=4)
                ax.plot(*zip(*points, strict=True), label=NAMES[order], **style)
                step, value = points[-1]
                change = "" if np.isnan(original) else f"{value / original - 1:+.1%}"
                name = NAMES[architecture]
                table.append([name, NAMES[order], str(step), f"{value:.2%}", change])
        ax.set(title=NAMES[architecture], xlabel="step")
        figures.percent(ax)
        figures.clean(ax)
    axes[0, 0].set_ylabel(f"{args.scalar.rpartition('/')[2]} accuracy")
    axes[0, -1].legend(frameon=False, fontsize=9)
    figures.save(figure, args.out)
    if args.numbers:
        rows = [
            dict(architecture=architecture, order=order, step=step, value=value)
            for (architecture, order), points in runs.items()
            for step, value in points
        ]
        figures.save_numbers(args.numbers, rows)
    print(cli.table(table))
    print(f"drawn to {args.out}")


def _read(workdirs: list[str], scalar: str) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """(step, value) of each run, by its architecture and order of pixels."""
    runs, places = {}, {}
    for workdir in workdirs:
        lines, config = curves.read(workdir), run.read_config(workdir)
        key = config["architecture"], config.get("permuted", {}).get("order", "original")
        if key in runs:
            raise ValueError(
                f"{places[key]} and {workdir} are both of {key[0]}, {key[1]}; leave one"
            )
        if not (points := curves.series(lines, scalar)):
            raise ValueError(f"{workdir} has no {scalar}; --scalar names another evaluation")
        runs[key], places[key] = points, workdir
    return runs


def undo(
    params: dict[str, Any], module: MlpMixer, patches: np.ndarray, inside: np.ndarray
) -> dict[str, Any]:
    """Parameters with which a Mixer computes from permuted images what it did from the original.

    Moving patches is moving the rows of each token-mixing MLP's first kernel, and the columns and
    the bias of its second; moving pixels inside all patches is moving those of the stem's kernel.
    No permutation of all pixels can be undone so.

    Args:
        params: of `module`.
        module: the Mixer.
        patches, inside: the permutation, in the mixer's own patches; see
            `models.permuted.patch_order`.
    """
    result = dict(params)
    stem = np.asarray(params["stem"]["kernel"])
    pixels = stem.reshape(-1, *stem.shape[2:])[inside]  # [ph * pw, channels, c]
    result["stem"] = dict(params["stem"], kernel=pixels.reshape(stem.shape))
    for i in range(module.num_blocks):
        block = params[f"MixerBlock_{i}"]
        first, second = block["token_mixing"]["Dense_0"], block["token_mixing"]["Dense_1"]
        result[f"MixerBlock_{i}"] = dict(
            block,
            token_mixing={
                "Dense_0": dict(first, kernel=np.asarray(first["kernel"])[patches]),
                "Dense_1": {
                    "kernel": np.asarray(second["kernel"])[:, patches],
                    "bias": np.asarray(second["bias"])[patches],
                },
            },
        )
    return result
