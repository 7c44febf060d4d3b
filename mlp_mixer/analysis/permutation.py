"""The permutation experiment (figure 4 of the paper), from runs of configs/permutation.py.

Shuffled patches should make no difference to a Mixer: `undo` returns the parameters with which it
computes the same from permuted images, and random initialisation draws them with the same
probability.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mlp_mixer.analysis import curves, figures
from mlp_mixer.models.mixer import MlpMixer
from mlp_mixer.runs.folder import read_config

NAMES = {
    "mixer": "Mixer",
    "bit": "ResNet (BiT)",
    "vit": "ViT",
    "original": "original",
    "patches": "patches + pixels inside",
    "pixels": "all pixels",
}
ORDERS = ("original", "patches", "pixels")


@dataclass(frozen=True)
class Experiment:
    """Runs of several architectures on images with permuted or original pixels.

    Attributes:
        scalar: name of the accuracy to compare.
        points: (architecture, order of pixels) -> (step, value) of the run.
    """

    scalar: str
    points: dict[tuple[str, str], list[tuple[float, float]]]

    @property
    def architectures(self) -> list[str]:
        """The architectures of the runs, in the order of NAMES."""
        return sorted({architecture for architecture, _ in self.points}, key=list(NAMES).index)

    def rows(self) -> list[dict[str, Any]]:
        """Returns every point, with the keys architecture, order, step and value."""
        return [
            dict(architecture=architecture, order=order, step=step, value=value)
            for (architecture, order), points in self.points.items()
            for step, value in points
        ]

    def summary(self) -> list[list[str]]:
        """Returns a table, with a heading, of final accuracies and what each permutation costs."""
        table = [["model", "order of pixels", "step", self.scalar, "against original"]]
        for architecture in self.architectures:
            original = self.points.get((architecture, "original"), [(0, 0.0)])[-1][1]
            for order in ORDERS:
                if points := self.points.get((architecture, order)):
                    step, value = points[-1]
                    change = f"{value / original - 1:+.1%}" if original > 0 else ""
                    name = NAMES[architecture]
                    table.append([name, NAMES[order], str(step), f"{value:.2%}", change])
        return table

    def figure(self) -> Figure:
        """Draws one panel per architecture, with one line per order of pixels."""
        count = len(self.architectures)
        figure, axes = figures.new(1, count, figsize=(4.4 * count, 3.6), sharex=True, sharey=True)
        handles: dict[str, Line2D] = {}
        for ax, architecture in zip(axes[0], self.architectures, strict=True):
            for number, order in enumerate(ORDERS):
                if points := self.points.get((architecture, order)):
                    style = dict(color=f"C{number}", marker="osD"[number], ms=4)
                    (handles[order],) = ax.plot(
                        *zip(*points, strict=True), label=NAMES[order], **style
                    )
            ax.set(title=NAMES[architecture], xlabel="step")
            figures.percent(ax)
            figures.clean(ax)
        name = self.scalar.rpartition("/")[2]
        axes[0, 0].set_ylabel(name if name == "accuracy" else f"{name} accuracy")
        shown = [handles[order] for order in ORDERS if order in handles]
        figure.legend(handles=shown, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
        return figure


def read_experiment(
    workdirs: str | PathLike | Sequence[str | PathLike], scalar: str = "fewshot/5shot"
) -> Experiment:
    """Reads the runs of an experiment.

    Args:
        workdirs: the run, or several, at most one of each architecture and order of pixels.
        scalar: name of the accuracy to compare.

    Raises:
        FileNotFoundError: a folder is not the workdir of a run.
        ValueError: two runs have the same architecture and order, or a run lacks the scalar.
    """
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    places: dict[tuple[str, str], str] = {}
    if isinstance(workdirs, str | PathLike):
        workdirs = [workdirs]
    for workdir in [fspath(workdir) for workdir in workdirs]:
        lines, config = curves.read(workdir), read_config(workdir)
        key = config["architecture"], config.get("permuted", {}).get("order", "original")
        if key in found:
            raise ValueError(
                f"{places[key]} and {workdir} are both runs of {key[0]}, {key[1]}; leave one of "
                "them out"
            )
        if not (points := curves.series(lines, scalar)):
            raise ValueError(f"{workdir} has no {scalar}{curves.hint(lines)}")
        found[key], places[key] = points, workdir
    return Experiment(scalar, found)


def undo(
    params: dict[str, Any], module: MlpMixer, patches: np.ndarray, inside: np.ndarray
) -> dict[str, Any]:
    """Returns parameters with which a Mixer computes from permuted images what it did before.

    A permutation of patches permutes the rows of each token-mixing MLP's first kernel, and the
    columns and the bias of its second; a permutation of the pixels inside all patches permutes the
    stem's kernel. A permutation of all pixels cannot be undone in this way.

    Args:
        params: parameters of `module`.
        module: the Mixer.
        patches, inside: the permutation of patches, int [s], and of pixels inside them, int
            [ph * pw], for the Mixer's own patches; see `models.permuted.patch_order`.
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
