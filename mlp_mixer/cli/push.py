"""Publishes a Mixer on the Hugging Face hub, or in a folder like a repository there.

    mlp-mixer push runs/mine hf://USER/NAME --license=apache-2.0
    mlp-mixer push runs/mine exported/mine

SRC is anything that mlp_mixer.load reads. Written are the weights, a config.json that timm reads,
too, and a model card: what the model is, how it was trained and how accurate it was, as far as its
run tells, command and config included; push to a folder first to see what others will. The hub
needs a token that may write: `hf auth login`, or HF_TOKEN. Files that hold something else are only
replaced with --overwrite.
"""

import argparse

from mlp_mixer.analysis.push import push
from mlp_mixer.cli import output
from mlp_mixer.weights.hub import PREFIX


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SRC", help="workdir of a run, or weights file")
    parser.add_argument("destination", metavar="DST", help="hf://USER/NAME, or a folder")
    parser.add_argument("--license", metavar="ID", help="as the hub calls it, such as apache-2.0")
    parser.add_argument(
        "--accuracy", type=_accuracy, action="append", default=[], metavar="NAME=SHARE",
        help="to state, such as ImageNet=0.764; those in a run's metrics are stated anyway",
    )  # fmt: skip
    parser.add_argument("--private", action="store_true", help="the repository must be private")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace files there that hold something else"
    )


def _accuracy(text: str) -> tuple[str, float]:
    name, _, share = text.rpartition("=")
    try:
        accuracy = float(share)
    except ValueError:
        name = ""
    if not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not like ImageNet=0.764")
    return name, accuracy


def main(args: argparse.Namespace) -> None:
    pushed = push(
        args.source,
        args.destination,
        license=args.license,
        accuracy=dict(args.accuracy),
        private=args.private,
        overwrite=args.overwrite,
    )
    kind = "" if args.destination.startswith(PREFIX) else "the folder "
    print(f"{args.source} is in {kind}{pushed.where}" + ("" if pushed.changed else ", unchanged"))
    if args.license is None:
        output.note("no --license was given, and the model card says so")
