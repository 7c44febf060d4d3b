"""Measures how sharp the minimum is that a model was trained to.

    mlp-mixer sharpness --checkpoint=WORKDIR
    mlp-mixer sharpness --checkpoint=gsam/Mixer-B_16 --source=tfds:imagenet2012 --split=train \\
        --examples=512 --top=5

It prints the largest eigenvalues of the Hessian of the loss, over all parameters, on a sample of
images: those of the run's training data, or of --source. The loss is the one that the model was
trained with, without augmentation or regularisation; images are cropped as in evaluation. SAM and
GSAM are meant to make it small. A sample of a few hundred images is enough to compare models on the
same sample. Each product of the Hessian with a vector costs about two gradients of the sample, and
a few dozen are needed.
"""

import argparse
import dataclasses
import json

from mlp_mixer.analysis import sharpness


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", required=True, help="weights file, or workdir of a run")
    parser.add_argument("--source", help="data set; default: what the run was trained on")
    parser.add_argument("--split", help="default: what the run was trained on, or train")
    parser.add_argument("--examples", type=int, default=1024, help="size of the sample")
    parser.add_argument("--top", type=int, default=1, metavar="N", help="number of eigenvalues")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="their relative error")
    parser.add_argument("--batch-size", type=int, default=64, help="images at a time")
    parser.add_argument("--seed", type=int, default=0, help="draws the sample")
    parser.add_argument("--json", action="store_true", help="print JSON")


def main(args: argparse.Namespace) -> None:
    found = sharpness.measure(
        args.checkpoint,
        args.source,
        args.split,
        examples=args.examples,
        top=args.top,
        tolerance=args.tolerance,
        batch_size=args.batch_size,
        seed=args.seed,
    )
    if args.json:
        print(json.dumps(dataclasses.asdict(found), indent=2))
        return
    print(
        f"{found.source}: {found.examples} images, loss {found.loss:.4f}, "
        f"gradient norm {found.gradient_norm:.4g}\n"
        f"largest eigenvalues of the Hessian: "
        f"{', '.join(f'{x:.4g}' for x in found.eigenvalues)} ({found.products} products)"
    )
