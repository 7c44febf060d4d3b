"""Lists the weights that have names: what each is, its size, and its accuracies.

    mlp-mixer pretrained ["gsam/*"]

The names are those that every command and mlp_mixer.load take. R is accuracy on ImageNet-R over its
200 classes, "R of 1,000" over all classes; docs/reference/weights.md names the sources.
"""

import argparse

from mlp_mixer.weights.pretrained import list_pretrained


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", nargs="?", default="*", metavar="PATTERN", help="of the names")


def main(args: argparse.Namespace) -> None:
    found = list_pretrained(args.pattern)
    if not found:
        raise ValueError(
            f"no weights have a name like {args.pattern}; without a pattern all are listed"
        )
    print(found)
