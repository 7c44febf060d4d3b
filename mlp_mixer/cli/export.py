"""Exports a model to one file that runs with jax alone, without this package.

    mlp-mixer export runs/mine mine.zip
    mlp-mixer export Mixer-B_16.npz b16-160x256.zip --image-size 160x256

SRC is anything that mlp_mixer.load reads. The program in the file maps pixels, uint8
[n, height, width, channels] for any n, to probabilities, float32 [n, classes]:

    import json, zipfile
    import jax
    from jax import export
    with zipfile.ZipFile("mine.zip") as file:
        about = json.loads(file.read("about.json"))  # sizes, class names, where it came from
        model = export.deserialize(bytearray(file.read("model.jax")))
    probabilities = jax.jit(model.call)(images)  # uint8, as about["input"] says

It runs on CPU, NVIDIA GPU and TPU. See docs/guides/export.md.
"""

import argparse

from mlp_mixer.cli.arguments import add_dtype_argument, add_size_arguments
from mlp_mixer.inference.export import ACTIVATIONS, export
from mlp_mixer.runtime.storage import size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SRC", help="weights file, or workdir of a run")
    parser.add_argument("destination", metavar="DST", help="the file to write, a .zip")
    add_size_arguments(parser)
    add_dtype_argument(parser, "float32")
    parser.add_argument(
        "--activation",
        choices=ACTIVATIONS,
        help="turns logits into probabilities; default: as the run was trained, else softmax",
    )


def main(args: argparse.Namespace) -> None:
    path, about = export(
        args.source,
        args.destination,
        image_size=args.image_size,
        patch_size=args.patch_size,
        resize=args.resize,
        activation=args.activation,
        dtype=args.dtype,
    )
    shape, output = about["input"]["shape"], about["output"]
    print(
        f"{path}: uint8 images [{', '.join(map(str, shape))}] to {output['activation']} "
        f"probabilities of {output['shape'][1]} classes; {size(path) / 1e6:.1f} MB"
    )
