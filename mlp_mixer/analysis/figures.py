"""Drawing, shared by the commands that write pictures."""

import math
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np

matplotlib.use("Agg")  # pictures go to files; no screen is needed
from matplotlib import pyplot as plt

WRONG = "#c1121f"


class Tile(NamedTuple):
    """An image with a text under it; a wrong one is framed in red."""

    image: np.ndarray  # uint8 [h, w, 1 or 3]
    text: str
    wrong: bool = False


def save(figure: plt.Figure, path: str | Path) -> None:
    """Writes a figure; its format follows from the file's ending."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, bbox_inches="tight", facecolor="white")
    plt.close(figure)


def draw_sheet(
    path: str | Path, tiles: list[Tile], columns: int, width: float, title: str = ""
) -> None:
    """Draws images in rows, each with its text. `width` of a tile is in inches."""
    rows = math.ceil(len(tiles) / columns)
    lines = max(tile.text.count("\n") + 1 for tile in tiles)
    aspect = max(tile.image.shape[0] / tile.image.shape[1] for tile in tiles)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(columns * width, rows * (width * aspect + 0.16 * lines)),
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat:
        ax.axis("off")
    for ax, tile in zip(axes.flat, tiles, strict=False):
        ax.axis("on")
        ax.set(xticks=[], yticks=[])
        ax.imshow(tile.image, cmap="gray" if tile.image.shape[-1] == 1 else None, vmin=0, vmax=255)
        color = WRONG if tile.wrong else "black"
        ax.set_xlabel(tile.text, fontsize=8, color=color)
        for side in ax.spines.values():
            side.set(color=WRONG if tile.wrong else "lightgrey", linewidth=3 if tile.wrong else 1)
    if title:
        figure.suptitle(title, fontsize=11)
    save(figure, path)
