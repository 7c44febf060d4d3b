"""Helpers for figures. All are matplotlib Figures: notebooks show them, and savefig writes them."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Makes a figure and its axes, an array [rows, columns], as `new` does.
MakeFigure = Callable[..., tuple[Figure, np.ndarray]]

WRONG = "#c1121f"
AWAY = 9  # a label further from its point than this is joined to it


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


def in_thread(rows: int, columns: int, figsize: tuple[float, float]) -> tuple[Figure, np.ndarray]:
    """Makes the same in a thread, where pyplot may not be used; notebooks cannot show it."""
    figure = Figure(figsize, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def clean(ax: Axes) -> None:
    """Adds a pale grid, and removes the frame at the top and right."""
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)


def percent(ax: Axes) -> None:
    """Labels shares on the vertical axis as round percentages."""
    ax.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.4g}%")


def label(ax: Axes, points: Sequence[tuple[float, float]], texts: Sequence[str]) -> None:
    """Writes a text near each point, where it touches no point and no other text.

    A text keeps clear of lines, too, if it can. One that stands away from its point is joined to it
    by a thin line.
    """
    figure = ax.figure.canvas.figure
    figure.draw_without_rendering()  # determines the positions of the points
    pixel = figure.dpi / 72  # pixels in a point, the unit of type
    places = ax.transData.transform(np.asarray(points, float)) / pixel
    sizes = [_size(ax, text) / pixel for text in texts]
    frame = np.asarray(ax.get_window_extent().extents) / pixel
    drawn = _along_lines(ax) / pixel
    marks = np.hstack([places - 4, places + 4])
    choices = [_around(place, size) for place, size in zip(places, sizes, strict=True)]
    fixed = [
        30 * _overlap(boxes, marks).sum(1)
        + 300 * ((boxes[:, :2] < frame[:2]) | (boxes[:, 2:] > frame[2:])).sum(1)
        + 2 * _inside(boxes, drawn)
        + costs
        for boxes, costs in choices
    ]
    # First each takes the best place that those before it have left, then each in turn moves to the
    # best place beside all others.
    taken: dict[int, np.ndarray] = {}
    margin = np.array([-2, -1, 2, 1])  # between two texts
    for number in [*range(len(points))] * 4:
        taken.pop(number, None)
        boxes, _ = choices[number]
        others = np.array([*taken.values()]).reshape(-1, 4) + margin
        taken[number] = boxes[np.argmin(fixed[number] + 30 * _overlap(boxes, others).sum(1))]
    for number, (point, text) in enumerate(zip(points, texts, strict=True)):
        box, place = taken[number], places[number]
        away = np.linalg.norm(place - place.clip(box[:2], box[2:])) > AWAY
        ax.annotate(
            text, point, xytext=(box[:2] + box[2:]) / 2 - place, textcoords="offset points",
            fontsize=7, color="0.25", ha="center", va="center",
            arrowprops=dict(arrowstyle="-", lw=0.6, color="0.6", shrinkA=0, shrinkB=3)
            if away else None,
        )  # fmt: skip


def _size(ax: Axes, text: str) -> np.ndarray:
    """Returns the width and height of a label, in pixels."""
    written = ax.text(0, 0, text, fontsize=7)
    box = written.get_window_extent()
    written.remove()
    return np.array([box.width, box.height])


def _around(place: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns boxes [n, 4] of a size around a place, and costs [n] of their positions."""
    x, y = np.meshgrid([-1, -0.5, 0, 0.5, 1], [-1, -0.5, 0, 0.5, 1])
    sides = np.stack([x, y], -1)[np.maximum(abs(x), abs(y)) == 1]
    gaps = np.repeat([6.0, 11.0, 17.0, 24.0, 32.0], len(sides))
    sides = np.tile(sides, (5, 1))
    unit = sides / np.linalg.norm(sides, axis=1, keepdims=True)
    centres = place + unit * gaps[:, None] + sides * size / 2
    # The right is where a text is looked for first, then the left.
    costs = 1.5 * gaps + 10 * (gaps > AWAY) + 3 * np.abs(unit[:, 1]) - unit[:, 0]
    return np.hstack([centres - size / 2, centres + size / 2]), costs


def _along_lines(ax: Axes) -> np.ndarray:
    """Returns points [n, 2] along all lines of a panel, in pixels, a few pixels apart."""
    found = [np.empty((0, 2))]
    for line in ax.lines:
        if line.get_linestyle() != "None":
            corners = ax.transData.transform(np.asarray(line.get_xydata(), float))
            for a, b in itertools.pairwise(corners):
                found.append(np.linspace(a, b, 2 + int(np.linalg.norm(b - a) / 3)))
    return np.concatenate(found)


def _overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns the areas [n, m] that boxes [n, 4] and others [m, 4] share."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return (high - low).clip(0).prod(-1)


def _inside(boxes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Counts, for each of the boxes [n, 4], the points [m, 2] in it."""
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    return ((points > low) & (points < high)).all(-1).sum(1)


def sheet(
    tiles: Sequence[Tile],
    columns: int,
    width: float,
    title: str = "",
    make: MakeFigure = new,
) -> Figure:
    """Draws images in rows, each with its caption; `width` is that of a tile in inches."""
    rows = math.ceil(len(tiles) / columns)
    lines = max(tile.text.count("\n") + 1 for tile in tiles)
    aspect = max(tile.image.shape[0] / tile.image.shape[1] for tile in tiles)
    size = (columns * width, rows * (width * aspect + 0.16 * lines))
    figure, axes = make(rows, columns, figsize=size)
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
