"""Tells the most likely classes of image files.

    python -m mlp_mixer predict --checkpoint=FILE_OR_WORKDIR IMAGE... [--figure=out.png]

Images may be of any size and common kind (JPEG, PNG, GIF, WebP, TIFF, AVIF, grey, CMYK, with
transparency or EXIF rotation). One that cannot be read is named, and the others are told all the
same; the exit status is then 1.
"""

import argparse
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mlp_mixer import cli
from mlp_mixer.data.images import BrokenImage
from mlp_mixer.evaluation.classifier import Classifier, load_classifier

log = logging.getLogger(__name__)

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
    good = _readable(classifier, args.images)
    while some := list(itertools.islice(good, BATCH)):
        paths, batch = zip(*some, strict=True)
        for path, row in zip(paths, classifier.probabilities(np.stack(batch)), strict=True):
            best = np.argsort(-row, kind="stable")[: args.top]
            lines = [f"{row[i]:6.1%}  {names[i]}" for i in best]
            print("\n  ".join([str(path), *lines]))
            captions.append("\n".join([Path(path).name, *(line.strip() for line in lines)]))
        if args.figure:
            pictures.extend(batch)
    if pictures:
        from mlp_mixer.analysis.figures import Tile, draw_sheet

        tiles = [Tile(image, text) for image, text in zip(pictures, captions, strict=True)]
        draw_sheet(args.figure, tiles, columns=min(4, len(tiles)), width=2.4)
        print(f"drawn to {args.figure}")
    if failed := len(args.images) - len(captions):
        raise ValueError(f"{failed} of {len(args.images)} images cannot be read, as told above")


def _readable(classifier: Classifier, paths: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Path and view of each image; of one that cannot be read only a message in the log."""
    for path in paths:
        try:
            yield path, classifier.prepare(path)
        except (BrokenImage, OSError) as error:
            log.error("%s", error)
