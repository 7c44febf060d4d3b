"""Helpers for figures. All are matplotlib Figures: notebooks show them, and savefig writes them."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

WRONG = "#c1121f"


class Tile(NamedTuple):
    """An image with a caption; a wrong one is framed in red."""

    image: np.ndarray  # uint8 [h, w, 1 or 3]
    text: str
    wrong: bool = False


def new(rows: int, columns: int, **options: Any) -> tuple[Figure, np.ndarray]:
    """Makes a figure and its axes, an array [rows, columns].

    It is made by pyplot, so that notebooks know how to show it, and then closed there: a cell that
    returns it shows it once, and its memory is freed with the last reference.
    """
    figure, axes = plt.subplots(rows, columns, squeeze=False, layout="constrained", **options)
    plt.close(figure)
    return figure, axes


def clean(ax: Axes) -> None:
    """Adds a pale grid, and removes the frame at the top and right."""
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)


def percent(ax: Axes) -> None:
    """Labels shares on the vertical axis as round percentages."""
    ax.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.4g}%")


def label(ax: Axes, points: Sequence[tuple[float, float]], texts: Sequence[str]) -> None:
    """Writes a text beside each point, on the first side where it covers nothing."""
    ax.figure.canvas.figure.draw_without_rendering()  # determines the positions of the points
    places = ax.transData.transform(np.asarray(points, float))
    taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in places]
    sides = [((6, 0), "left", "center"), ((-6, 0), "right", "center")]
    sides += [((0, 5), "center", "bottom"), ((0, -5), "center", "top")]
    sides += [((5, y), "left", "center") for y in (8, -8)]
    sides += [((-5, y), "right", "center") for y in (8, -8)]
    sides += [((5, y), "left", "center") for y in (15, -15)]
    for point, text in zip(points, texts, strict=True):
        for offset, horizontal, vertical in sides:
            written = ax.annotate(
                text, point, xytext=offset, textcoords="offset points", fontsize=7, color="0.25",
                ha=horizontal, va=vertical,
            )  # fmt: skip
            box = written.get_window_extent()
            if not any(box.overlaps(other) for other in taken):
                break
            written.remove()
        else:
            ax.add_artist(written)  # no side is free, so it goes on the last
        taken.append(box)


def sheet(tiles: Sequence[Tile], columns: int, width: float, title: str = "") -> Figure:
    """Draws images in rows, each with its caption; `width` is that of a tile in inches."""
    rows = math.ceil(len(tiles) / columns)
    lines = max(tile.text.count("\n") + 1 for tile in tiles)
    aspect = max(tile.image.shape[0] / tile.image.shape[1] for tile in tiles)
    size = (columns * width, rows * (width * aspect + 0.16 * lines))
    figure, axes = new(rows, columns, figsize=size)
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
    return figure
