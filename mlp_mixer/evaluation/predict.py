"""Tells the most likely classes of image files.

    python -m mlp_mixer predict --checkpoint=FILE_OR_WORKDIR IMAGE... [--figure=out.png]

Images may be of any size and common kind (JPEG, PNG, GIF, WebP, grey, CMYK, with transparency or
EXIF rotation).
"""

import argparse
from pathlib import Path

import numpy as np

from mlp_mixer import cli
from mlp_mixer.evaluation.classifier import load_classifier

BATCH = 32  # images at a time, so that many files need little memory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", required=True, help="weights file, or workdir of a run")
    cli.add_size_arguments(parser)
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    parser.add_argument("--top", type=int, default=5, help="number of classes to show")
    parser.add_argument("--figure", help="draw the images with their predictions to this file")


def main(args: argparse.Namespace) -> None:
    if args.top < 1:
        raise ValueError(f"--top={args.top} must be at least 1")
    classifier = load_classifier(args.checkpoint, args.image_size, args.patch_size, args.resize)
    names = classifier.output_names
    captions, pictures = [], []
    for first in range(0, len(args.images), BATCH):
        paths = args.images[first : first + BATCH]
        batch = np.stack([classifier.prepare(path) for path in paths])
        for path, row in zip(paths, classifier.probabilities(batch), strict=True):
            best = np.argsort(-row, kind="stable")[: args.top]
            lines = [f"{row[i]:6.1%}  {names[i]}" for i in best]
            print("\n  ".join([str(path), *lines]))
            captions.append("\n".join([Path(path).name, *(line.strip() for line in lines)]))
        if args.figure:
            pictures.extend(batch)
    if args.figure:
        from mlp_mixer.analysis.figures import Tile, draw_sheet

        tiles = [Tile(image, text) for image, text in zip(pictures, captions, strict=True)]
        draw_sheet(args.figure, tiles, columns=min(4, len(tiles)), width=2.4)
        print(f"drawn to {args.figure}")
