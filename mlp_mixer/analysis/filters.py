"""Draws the hidden units of a token-mixing MLP as images.

    python -m mlp_mixer filters --checkpoint=FILE_OR_WORKDIR [--block=0] --out=filters.png

Each image is one unit of the MLP's first layer: the weights with which it looks at the patches,
laid out as the patches lie in the image. Red is positive, blue negative, white zero; each unit is
scaled by its own largest weight. Units are sorted by strength (the norm of their weights).
"""

import argparse
import math

import numpy as np

from mlp_mixer.weights.load import load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", required=True, help="weights file, or workdir of a run")
    parser.add_argument("--block", type=int, default=0, help="number of the Mixer block")
    parser.add_argument("--units", type=int, default=128, help="how many to draw at most")
    parser.add_argument("--out", default="filters.png", help="file to draw to")


def main(args: argparse.Namespace) -> None:
    from mlp_mixer.analysis import figures

    module, params = load(args.checkpoint)
    if not 0 <= args.block < module.num_blocks:
        raise ValueError(f"--block={args.block}: the model has blocks 0 to {module.num_blocks - 1}")
    kernel = params[f"MixerBlock_{args.block}"]["token_mixing"]["Dense_0"]["kernel"]  # [s, units]
    strongest = np.argsort(-np.linalg.norm(kernel, axis=0))[: args.units]
    columns = min(16, math.ceil(math.sqrt(len(strongest) * 2)))
    rows = math.ceil(len(strongest) / columns)
    figure, axes = figures.plt.subplots(
        rows, columns, figsize=(columns * 0.6, rows * 0.6 + 0.4), squeeze=False
    )
    for ax in axes.flat:
        ax.axis("off")
    for ax, unit in zip(axes.flat, strongest, strict=False):
        weights = kernel[:, unit].reshape(module.grid)
        largest = np.abs(weights).max()
        ax.imshow(weights, cmap="RdBu_r", vmin=-largest, vmax=largest)
    h, w = module.grid
    figure.suptitle(
        f"token mixing, block {args.block}: the {len(strongest)} strongest of {kernel.shape[1]} "
        f"units over {h}x{w} patches",
        fontsize=10,
    )
    figures.save(figure, args.out)
    print(f"drawn to {args.out}")
