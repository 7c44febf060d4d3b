"""Figures of an evaluation: a sheet of images with their predictions, and the confusion matrix."""

import io

import numpy as np
from matplotlib.figure import Figure

from mlp_mixer.analysis import figures
from mlp_mixer.analysis.figures import Tile
from mlp_mixer.inference.measure import Evaluation, evaluate
from mlp_mixer.runs.metrics import Picture
from mlp_mixer.runtime.storage import AnyPath

TILES = 60
NAMED = 40  # most classes for which a confusion matrix has names on its axes


def sheet(
    evaluation: Evaluation, tiles: int = TILES, make: figures.MakeFigure = figures.new
) -> Figure:
    """Draws images with their predictions, from as many classes as possible, errors first in red.

    At most half of the tiles are errors. Within a class, the most confident come first.

    Args:
        evaluation: what `mlp_mixer.evaluate` returns.
        tiles: number of images at most.
        make: makes the figure.

    Raises:
        ValueError: images have several labels.
    """
    found = evaluation.predictions
    errors = found.errors(tiles // 2)
    shown = [*errors, *found.right(tiles - len(errors))]
    drawn = []
    for i in map(int, shown):
        text = f"{found.class_names[found.guesses[i]]}  {found.confidences[i]:.0%}"
        wrong = bool(found.guesses[i] != found.labels[i])
        if wrong:
            text += f"\nis {found.class_names[found.labels[i]]}"
        drawn.append(Tile(evaluation.view(i), text, wrong))
    mistakes = int((found.guesses != found.labels).sum())
    title = (
        f"{evaluation.source}: {1 - mistakes / len(found.labels):.2%} correct, "
        f"{mistakes} of {len(found.labels)} wrong (in red, at most {tiles // 2} shown)"
    )
    return figures.sheet(drawn, columns=10, width=1.1, title=title, make=make)


def of_run(workdir: AnyPath, examples: int) -> Picture:
    """Draws a sheet of a run for TensorBoard, of 30 images from so many of its test data.

    Raises:
        ValueError, OSError: as for `evaluate`; ValueError also if images have several labels.
    """
    figure = sheet(evaluate(str(workdir), examples=examples), 30, figures.in_thread)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    height, width = np.rint(100 * figure.get_size_inches()[::-1]).astype(int).tolist()
    return Picture(file.getvalue(), height, width)


def confusion(evaluation: Evaluation) -> Figure:
    """Draws the confusion matrix: each row has the shares of a class's examples by prediction.

    Raises:
        ValueError: examples have several labels.
    """
    found = evaluation.predictions
    matrix = found.confusion()
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    k = len(matrix)
    side = 3 + 0.28 * min(k, NAMED)
    figure, axes = figures.new(1, 1, figsize=(side + 1, side))
    ax = axes[0, 0]
    drawn = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(drawn, ax=ax, format="{x:.0%}", label="of the class's examples")
    ax.set(
        xlabel="predicted class",
        ylabel="true class",
        title=f"{evaluation.source}: {evaluation.accuracy:.2%}",
    )
    if k <= NAMED:
        ax.set_xticks(range(k), found.class_names, rotation=90, fontsize=8)
        ax.set_yticks(range(k), found.class_names, fontsize=8)
        for row, column in zip(*np.nonzero(matrix), strict=True):
            color = "white" if shares[row, column] > 0.5 else "black"
            ax.text(column, row, matrix[row, column], ha="center", va="center",
                    fontsize=7, color=color)  # fmt: skip
    return figure
