"""Filters as images: hidden units of token-mixing MLPs, or the stem (figures 5 to 7 of the paper).

For a block, each image is one unit of the first layer of the token-mixing MLP: its weights for the
patches, arranged like the patches in the image. Red is positive, blue negative, white zero. For the
stem, each image is the patch that excites one channel of the tokens most, in colour, with grey for
zero. Every image is scaled by its own largest weight.

Images are sorted from low to high frequency, row by row, and each is followed by the one that comes
closest to its inverse; `ordering` defines both.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mlp_mixer.analysis import figures, ordering
from mlp_mixer.models.mixer import MlpMixer
from mlp_mixer.weights.load import load

KEY = "weight / largest weight of the unit"


def draw(
    source: str | PathLike,
    blocks: Sequence[int] | None = None,
    *,
    stem: bool = False,
    units: int = 128,
) -> Figure:
    """Draws the filters of a model, one panel per layer.

    Args:
        source: weights of a Mixer; see `mlp_mixer.load`.
        blocks: numbers of Mixer blocks, from 0; by default the first, unless `stem` is set.
        stem: whether to draw the stem.
        units: most units to draw per layer; the strongest pairs are chosen.

    Raises:
        ValueError: the model is not a Mixer, or has no such block.
    """
    return read_filters(source, blocks, stem=stem, units=units).figure()


@dataclass(frozen=True)
class Filters:
    """The filters of several layers, sorted.

    Attributes:
        units: layer -> all its filters, float [units, h, w]; [units, h, w, channels] for the stem.
        order: layer -> indices of the filters to draw, int [n], in their order.
        values: layer -> for each of these, unit (its index), frequency in cycles per patch (in the
            stem, per pixel), norm, and cosine similarity to the other of its pair.
    """

    units: dict[str, np.ndarray]
    order: dict[str, np.ndarray]
    values: dict[str, list[dict[str, float]]]

    def rows(self) -> list[dict[str, Any]]:
        """Returns `values` as one table, with the layer and the place in it in front."""
        return [
            {"layer": layer, "place": place, **value}
            for layer, values in self.values.items()
            for place, value in enumerate(values)
        ]

    def figure(self) -> Figure:
        """Draws one panel per layer."""
        figure, axes = figures.new(1, len(self.units), figsize=(4.6 * len(self.units), 5.3))
        signed = []  # panels without colours of their own
        for ax, (layer, units) in zip(axes[0], self.units.items(), strict=True):
            numbers = self.order[layer]
            image = mosaic(units[numbers])
            shown = ax.imshow(image, cmap=None if image.ndim == 3 else "RdBu_r", vmin=-1, vmax=1)
            if image.ndim == 2:
                signed.append((ax, shown))
            ax.axis("off")
            h, w = units.shape[1:3]
            what = f"{len(numbers)} of {len(units)}" if len(numbers) < len(units) else len(units)
            of = "pixels" if layer == "stem" else "patches"
            ax.set_title(f"{layer.replace('_', ' ')}: {what} units, {h} x {w} {of}", fontsize=10)
        if signed:
            bar = figure.colorbar(
                signed[0][1], ax=[ax for ax, _ in signed], location="bottom", ticks=[-1, 0, 1],
                shrink=0.4 / len(signed), aspect=18, pad=0.02,
            )  # fmt: skip
            bar.ax.tick_params(labelsize=8)
            bar.set_label(KEY, fontsize=8)
            bar.outline.set_visible(False)
        return figure


def read_filters(
    source: str | PathLike,
    blocks: Sequence[int] | None = None,
    *,
    stem: bool = False,
    units: int = 128,
) -> Filters:
    """Reads and sorts the filters of a model; see `draw`."""
    source = fspath(source)
    module, params = load(source)
    if not isinstance(module, MlpMixer):
        raise ValueError(
            f"{source} is a {type(module).__name__}; filters are drawn as images lie for "
            "Mixers that see pixels in their order only"
        )
    layers = choose(module, params, blocks, stem)
    found = {name: sort(layer, units) for name, layer in layers.items()}
    return Filters(
        layers,
        {name: order for name, (order, _) in found.items()},
        {name: values for name, (_, values) in found.items()},
    )


def choose(
    module, params: dict, blocks: Sequence[int] | None = None, stem: bool = False
) -> dict[str, np.ndarray]:
    """Returns filters by layer: [units, h, w] of blocks, [units, h, w, c] of the stem.

    Args:
        module: a Mixer.
        params: its parameters.
        blocks: numbers of blocks; by default the first, unless `stem` is set.
        stem: whether to include the stem.

    Raises:
        ValueError: the model has no such block.
    """
    layers = {"stem": np.moveaxis(np.asarray(params["stem"]["kernel"]), -1, 0)} if stem else {}
    for i in blocks or ([] if stem else [0]):
        if not 0 <= i < module.num_blocks:
            raise ValueError(
                f"there is no block {i}: the model has blocks 0 to {module.num_blocks - 1}"
            )
        kernel = np.asarray(params[f"MixerBlock_{i}"]["token_mixing"]["Dense_0"]["kernel"])
        layers[f"block_{i}"] = kernel.T.reshape(-1, *module.grid)
    return layers


def sort(units: np.ndarray, most: int) -> tuple[np.ndarray, list[dict[str, float]]]:
    """Selects the units of the strongest pairs, at most `most`, in the order of drawing.

    Args:
        units: [n, h, w] or [n, h, w, c].
        most: how many to select.

    Returns:
        Their indices, int, and the properties of each: see `Filters.values`.
    """
    norms = np.linalg.norm(units.reshape(len(units), -1), axis=1)
    frequency = ordering.frequencies(units)
    order, similarity = ordering.opposite_pairs(units, frequency)
    pairs = [range(i, min(i + 2, len(order))) for i in range(0, len(order), 2)]
    by_strength = sorted(pairs, key=lambda pair: -norms[order[pair]].sum())
    places = sorted(place for pair in by_strength[: max(most // 2, 1)] for place in pair)
    values = [
        dict(
            unit=int(order[place]),
            frequency=float(frequency[order[place]]),
            norm=float(norms[order[place]]),
            similarity=float(similarity[place]),
        )
        for place in places
    ]
    return order[places], values


def mosaic(units: np.ndarray) -> np.ndarray:
    """Arranges filters in rows, with pairs close together.

    Args:
        units: [n, h, w] or [n, h, w, c]; if there are not 3 channels, their mean is taken.

    Returns:
        An image [y, x] in [-1, 1], or, for 3 channels, [y, x, 3] in [0, 1].
    """
    n, h, w = units.shape[:3]
    if units.ndim == 4 and units.shape[-1] != 3:
        units = units.mean(-1)
    color = units.ndim == 4
    largest = np.abs(units).reshape(n, -1).max(1).reshape(-1, *[1] * (units.ndim - 1))
    units = units / np.where(largest > 0, largest, 1)
    if color:
        units = (units + 1) / 2
    zoom = max(1, 48 // max(h, w))  # so that the gaps are thin
    units = units.repeat(zoom, 1).repeat(zoom, 2)
    h, w = h * zoom, w * zoom
    gap = max(1, max(h, w) // 24)
    pair = (h + 5 * gap, 2 * w + 6 * gap)  # including the space after it
    pairs = math.ceil(n / 2)
    columns = min(pairs, max(1, round(math.sqrt(pairs * pair[0] / pair[1]))))
    lines = math.ceil(pairs / columns)
    empty = 1.0 if color else np.nan
    canvas = np.full((lines * pair[0], columns * pair[1], *units.shape[3:]), empty)
    for i, unit in enumerate(units):
        line, column = divmod(i // 2, columns)
        top, left = line * pair[0], column * pair[1] + i % 2 * (w + gap)
        canvas[top : top + h, left : left + w] = unit
    return canvas[: -5 * gap, : -5 * gap]
