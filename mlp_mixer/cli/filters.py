"""Draws filters as images: hidden units of token-mixing MLPs, or the stem (figures 5 to 7).

    mlp-mixer filters --checkpoint=FILE_OR_WORKDIR [--blocks 0 1 2] --out=filters.png
    mlp-mixer filters --checkpoint=FILE_OR_WORKDIR --stem --out=stem.png

Works for all weights that mlp_mixer.load reads. For a block, each image is one unit of the first
layer of the token-mixing MLP: its weights for the patches, arranged like the patches in the image.
Red is positive, blue negative, white zero. For the stem, each image is the patch that excites one
channel of the tokens most, in colour, with grey for zero. Images are sorted from low to high
frequency, row by row, and each is followed by the one that comes closest to its inverse.

--numbers writes a CSV file with a row for each image: layer, place, unit (its index in the
checkpoint), frequency in cycles per patch (in the stem, per pixel), norm, and similarity to the
other image of its pair.
"""

import argparse

from mlp_mixer.analysis import filters
from mlp_mixer.cli import output
from mlp_mixer.cli.arguments import add_figure_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", required=True, help="weights file, or workdir of a run")
    parser.add_argument(
        "--blocks", type=int, nargs="+", metavar="I", help="numbers of Mixer blocks; default: 0"
    )
    parser.add_argument("--stem", action="store_true", help="draw the stem")
    parser.add_argument(
        "--units", type=int, default=128, metavar="N", help="draw at most N, in the strongest pairs"
    )
    add_figure_arguments(parser, "filters.png")


def main(args: argparse.Namespace) -> None:
    found = filters.read_filters(args.checkpoint, args.blocks, stem=args.stem, units=args.units)
    output.save_figure(found.figure(), args.out)
    output.save_numbers(found.rows(), args.numbers)
