"""Tables and pictures of docs/lab/input_size.md, from what input_size.py has measured.

python -m benchmarks.input_size_report --workdir runs/input_size --images docs/images
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt

from benchmarks.input_size import FINE_TUNING, METHODS, PATCHES, SEEDS, SIZES, WAYS
from mlp_mixer.weights.load import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True, help="of benchmarks.input_size")
    parser.add_argument("--images", type=Path, required=True, help="folder for the pictures")
    args = parser.parse_args()
    values = json.loads((args.workdir / "results.json").read_text())
    print_tables(values)
    args.images.mkdir(parents=True, exist_ok=True)
    draw_filters(args.workdir / "base", args.images / "input_size_filters.png")
    draw_accuracies(values, args.images / "input_size_accuracy.png")


def _x(size) -> str:
    return f"{size[0]}x{size[1]}"


def _rows(values: dict[str, Any]) -> dict[tuple, np.ndarray]:
    """(size, method) to the accuracy before, and after in the mean over seeds."""
    return {
        (size, method): (
            values[f"before/{size}/{method}"],
            np.mean([values[f"after/{size}/{method}/{seed}"] for seed in SEEDS]),
        )
        for size in SIZES
        for method in METHODS
        if f"before/{size}/{method}" in values
    }


def print_tables(values: dict[str, Any]) -> None:
    rows = _rows(values)
    header = " | ".join(_x(size) for size in SIZES)
    print(f"\n| accuracy, %: before -> after fine-tuning | {header} |\n|---|" + "---|" * len(SIZES))
    for method in METHODS:
        cells = (rows.get((size, method)) for size in SIZES)
        text = ("" if c is None else f"{c[0]:.1%} -> {c[1]:.1%}".replace("%", "") for c in cells)
        print(f"| {method} | {' | '.join(text)} |")
    print(f"\n| resampled, not fine-tuned | {header} |\n|---|" + "---|" * len(SIZES))
    for way in WAYS:
        text = (f"{values[f'way/{way}/{size}']:.1%}".strip("%") for size in SIZES)
        print(f"| {way} | {' | '.join(text)} |")
    print("\n| image size | patch size | patches | accuracy |\n|---|---|---|---|")
    for image_size, patch_size in PATCHES:
        side, accuracy = image_size // patch_size, values[f"patch/{image_size}/{patch_size}"]
        print(f"| {image_size} | {patch_size} | {side}x{side} | {accuracy:.1%} |".replace("%", ""))


def draw_filters(base: Path, path: Path, units: int = 8) -> None:
    """Input weights of the first token MLP's strongest units, before and after."""
    module, params = load(base)
    kernel = params["MixerBlock_0"]["token_mixing"]["Dense_0"]["kernel"]
    strongest = np.argsort(-np.linalg.norm(kernel, axis=0))[:units]
    grids = [module.grid, *((h // 4, w // 4) for h, w in SIZES)]
    figure, axes = plt.subplots(
        len(grids), units, figsize=(units * 1.05, 5.6), layout="constrained"
    )
    for row, grid in zip(axes, grids, strict=True):
        filters = WAYS["cubic (chosen)"](module.grid, grid)[0] @ kernel
        for axis, unit in zip(row, strongest, strict=True):
            picture = filters[:, unit].reshape(grid)
            limit = np.abs(picture).max()
            axis.imshow(picture, cmap="RdBu", vmin=-limit, vmax=limit, extent=(0, 1, 0, 1))
            axis.set(xticks=[], yticks=[])
        label = f"{_x(grid)}\n(trained)" if grid == module.grid else _x(grid)
        row[0].set_ylabel(label, rotation=0, ha="right", va="center")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_accuracies(values: dict[str, Any], path: Path) -> None:
    """A panel for each size: every method before and after fine-tuning."""
    rows = _rows(values)
    figure, axes = plt.subplots(1, len(SIZES), figsize=(9, 2.6), sharey=True, layout="constrained")
    for axis, size in zip(axes, SIZES, strict=True):
        for i, method in enumerate(METHODS):
            if (size, method) in rows:
                before, after = rows[size, method]
                axis.plot([0, 1], [100 * before, 100 * after], "o-", color=f"C{i}", label=method)
        axis.set_xticks([0, 1], ["as it is", f"{FINE_TUNING['steps']} steps"])
        axis.set(title=f"{_x(size)} pixels", xlim=(-0.3, 1.3))
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("test accuracy, %")
    handles = {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
