"""Predicts the most likely classes of images.

    mlp-mixer predict --checkpoint=FILE_OR_WORKDIR IMAGE... [--figure=out.png]

An IMAGE is a file, an address that begins with https://, or a folder, which stands for all images
in it and its subfolders. --json prints the classes for programs, --csv=FILE writes them to a file
instead of printing them.

Images may have any size and common format (JPEG, PNG, GIF, WebP, TIFF, AVIF, grey, CMYK, with
transparency or EXIF rotation). Images that cannot be read are named and skipped, and the exit
status is then 1.
"""

import argparse
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from mlp_mixer.analysis import figures
from mlp_mixer.cli import output
from mlp_mixer.cli.arguments import add_dtype_argument, add_size_arguments, file_to_write
from mlp_mixer.data.listing import list_images, shown
from mlp_mixer.inference.classifier import Classifier, Guess, load_classifier

log = logging.getLogger(__name__)

MOST_DRAWN = 100  # images in a figure


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", required=True, help="weights file, or workdir of a run")
    add_size_arguments(parser)
    add_dtype_argument(parser)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="file, folder or address")
    parser.add_argument("--top", type=int, default=5, help="number of classes to show")
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N",
        help="processes that read images; default: 0 for threads, enough for a few CPUs",
    )  # fmt: skip
    parser.add_argument(
        "--figure", type=file_to_write,
        help=f"draw the first {MOST_DRAWN} images with their predictions to this file",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object for each image")
    parser.add_argument(
        "--csv", type=file_to_write, metavar="FILE",
        help="write image, rank, class and probability",
    )  # fmt: skip


def main(args: argparse.Namespace) -> None:
    if args.top < 1:
        raise ValueError(f"--top={args.top} must be at least 1")
    classifier = load_classifier(
        args.checkpoint, image_size=args.image_size, patch_size=args.patch_size,
        resize=args.resize, dtype=args.dtype,
    )  # fmt: skip
    paths = list(_files(args.images))
    tiles: list[figures.Tile] | None = [] if args.figure else None
    failed: list[str] = []
    told = _predictions(classifier, paths, args, tiles, failed)
    if args.csv:
        output.save_csv(_rows(tqdm(told, "images", len(paths), disable=None), args.json), args.csv)
    else:
        for name, guesses in told:
            _tell(name, guesses, args.json)
    if tiles:
        output.save_figure(figures.sheet(tiles, min(4, len(tiles)), width=2.4), args.figure)
    if failed:
        raise ValueError(f"{len(failed)} of {len(paths)} images cannot be read, as told above")


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


def _predictions(
    classifier: Classifier,
    paths: Sequence[str],
    args: argparse.Namespace,
    tiles: list[figures.Tile] | None,
    failed: list[str],
) -> Iterator[tuple[str, list[Guess]]]:
    """Yields path and guesses of each image that can be read; makes tiles of the first ones.

    Those that cannot be read are logged, and added to `failed`.
    """

    def note(message: str) -> None:
        log.error("%s", message)
        failed.append(message)

    for image, view, probabilities in classifier.stream(paths, workers=args.workers, on_error=note):
        path, guesses = str(image), classifier.guesses(probabilities, args.top)
        if tiles is not None and len(tiles) < MOST_DRAWN:
            text = "\n".join([shown(Path(path).name), *map(_in_words, guesses)])
            tiles.append(figures.Tile(view, text))
        yield path, guesses


def _in_words(guess: Guess) -> str:
    return f"{guess.probability:.1%}  {guess.name}"


def _tell(name: str, guesses: list[Guess], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"image": name, "classes": [guess._asdict() for guess in guesses]}))
    else:
        print("\n  ".join([shown(name), *(f"{g.probability:6.1%}  {g.name}" for g in guesses)]))


def _rows(told: Iterable[tuple[str, list[Guess]]], also_json: bool) -> Iterator[Sequence]:
    """Yields the rows of a CSV file; prints JSON as well where that is asked for."""
    yield "image", "rank", "class", "probability"
    for name, guesses in told:
        if also_json:
            _tell(name, guesses, as_json=True)
        for rank, guess in enumerate(guesses, 1):
            yield shown(name), rank, guess.name, guess.probability
