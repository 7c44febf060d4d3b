"""Predicts the most likely classes of images.

    mlp-mixer predict --checkpoint=FILE_OR_WORKDIR IMAGE... [--figure=out.png]

An IMAGE is a file, an address that begins with https://, or a folder, which stands for all images
in it and its subfolders. --json and --csv=FILE give the classes to programs.

Images may have any size and common format (JPEG, PNG, GIF, WebP, TIFF, AVIF, grey, CMYK, with
transparency or EXIF rotation). Images that cannot be read are named and skipped, and the exit
status is then 1.
"""

import argparse
import itertools
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mlp_mixer.analysis import figures
from mlp_mixer.cli import output
from mlp_mixer.cli.arguments import add_size_arguments
from mlp_mixer.data.images import BrokenImage
from mlp_mixer.data.listing import list_images
from mlp_mixer.inference.classifier import BATCH, Classifier, Guess, load_classifier

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", required=True, help="weights file, or workdir of a run")
    add_size_arguments(parser)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="file, folder or address")
    parser.add_argument("--top", type=int, default=5, help="number of classes to show")
    parser.add_argument("--figure", help="draw the images with their predictions to this file")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each image")
    parser.add_argument("--csv", metavar="FILE", help="write image, rank, class and probability")


def main(args: argparse.Namespace) -> None:
    if args.top < 1:
        raise ValueError(f"--top={args.top} must be at least 1")
    classifier = load_classifier(
        args.checkpoint, image_size=args.image_size, patch_size=args.patch_size, resize=args.resize
    )
    paths = list(_files(args.images))
    told: list[tuple[str, list[Guess]]] = []
    pictures = []
    good = _readable(classifier, paths)
    while some := list(itertools.islice(good, BATCH)):
        names, views = zip(*some, strict=True)
        for name, row in zip(names, classifier.of_views(np.stack(views)), strict=True):
            told.append((name, classifier.guesses(row, args.top)))
            _tell(*told[-1], args.json)
        if args.figure:
            pictures.extend(views)
    if args.csv:
        _write_csv(args.csv, told)
    if pictures:
        tiles = [
            figures.Tile(view, "\n".join([Path(name).name, *map(_in_words, guesses)]))
            for view, (name, guesses) in zip(pictures, told, strict=True)
        ]
        output.save_figure(figures.sheet(tiles, min(4, len(tiles)), width=2.4), args.figure)
    if failed := len(paths) - len(told):
        raise ValueError(f"{failed} of {len(paths)} images cannot be read, as told above")


def _files(given: Sequence[str]) -> Iterator[str]:
    """Yields files and addresses as given, and the images in each folder."""
    for text in given:
        if "://" not in text and Path(text).is_dir():
            names = list_images(Path(text)).names
            if not len(names):
                raise ValueError(f"{text} has no images")
            yield from (str(Path(text, os.fsdecode(name))) for name in names)
        else:
            yield text


def _readable(classifier: Classifier, paths: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yields path and view of each image; those that cannot be read are only logged."""
    for path in paths:
        try:
            yield path, classifier.view(path)
        except (BrokenImage, OSError) as error:
            log.error("%s", output.in_words(error))


def _in_words(guess: Guess) -> str:
    return f"{guess.probability:.1%}  {guess.name}"


def _tell(name: str, guesses: list[Guess], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"image": name, "classes": [guess._asdict() for guess in guesses]}))
    else:
        print("\n  ".join([name, *(f"{g.probability:6.1%}  {g.name}" for g in guesses)]))


def _write_csv(path: str, told: list[tuple[str, list[Guess]]]) -> None:
    rows = [
        (name, rank, guess.name, guess.probability)
        for name, guesses in told
        for rank, guess in enumerate(guesses, 1)
    ]
    output.save_csv([("image", "rank", "class", "probability"), *rows], path)
