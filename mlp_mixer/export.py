"""Writes a model as one file that runs with jax alone, without this package.

    python -m mlp_mixer export runs/mine mine.zip
    python -m mlp_mixer export Mixer-B_16.npz b16-160x256.zip --image-size 160x256

SRC is anything that mlp_mixer.load reads. The program in the file takes pixels, uint8
[n, height, width, channels] for any n, and gives probabilities, float32 [n, classes]:

    import json, zipfile
    import jax
    from jax import export
    with zipfile.ZipFile("mine.zip") as file:
        about = json.loads(file.read("about.json"))  # sizes, class names, where it came from
        model = export.deserialize(bytearray(file.read("model.jax")))
    probabilities = jax.jit(model.call)(images)  # uint8, as about["input"] says

It runs on CPU, NVIDIA GPU and TPU. See docs/export.md.
"""

import argparse
import json
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import jax
import jax.numpy as jnp
from jax import export as jax_export

from mlp_mixer import cli
from mlp_mixer.evaluation.classifier import load_classifier, to_probabilities
from mlp_mixer.training.step import normalise
from mlp_mixer.weights.npz import write_whole
from mlp_mixer.weights.sources import open_source

PLATFORMS = ("cpu", "cuda", "tpu")
LIMIT = 2**31 - 2**24  # bytes of weights: FlatBuffers end at 2 GiB, and the program takes some
ACTIVATIONS = ("softmax", "sigmoid")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SRC", help="weights file, or workdir of a run")
    parser.add_argument("destination", metavar="DST", help="the file to write, a .zip")
    cli.add_size_arguments(parser)
    parser.add_argument(
        "--activation",
        choices=ACTIVATIONS,
        help="from logits to probabilities; default: as the run was trained, else softmax",
    )


def main(args: argparse.Namespace) -> None:
    classifier = load_classifier(args.source, args.image_size, args.patch_size, args.resize)
    module = classifier.module
    activation = args.activation or classifier.loss
    size = ["n", *module.image_size, module.image_channels]
    with open_source(args.source) as opened:
        made_from = {"source": str(args.source), "sha256": opened.sha256()}
    about = {
        # How images are to be resized and cut; see data.images.eval_view.
        "input": {
            "dtype": "uint8",
            "shape": size,
            "crop": classifier.crop,
            "crop_fraction": classifier.crop_fraction,
        },
        "output": {"activation": activation, "shape": ["n", module.num_classes]},
        "class_names": classifier.output_names,
        "made_from": made_from,
        "made_with": f"jax {jax.__version__}",
        "platforms": PLATFORMS,
    }
    write(args.destination, serialise(module, classifier.params, activation), about)
    print(
        f"{args.destination}: uint8 images [{', '.join(map(str, size))}] to {activation} "
        f"probabilities of {module.num_classes} classes; "
        f"{Path(args.destination).stat().st_size / 1e6:.1f} MB"
    )


def serialise(module: Any, params: dict[str, Any], activation: str = "softmax") -> bytes:
    """The program from pixels to probabilities, with its weights, as jax.export serialises it.

    Args:
        module: a model with a head.
        params: its parameters.
        activation: "softmax", or "sigmoid" for weights that were trained with that loss.

    Raises:
        ValueError: there is no head, no such activation, or over 2 GB of weights.
    """
    if not module.num_classes:
        raise ValueError("the weights have no head, so there are no probabilities to export")
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}; use {' or '.join(ACTIVATIONS)}")
    size = sum(x.nbytes for x in jax.tree.leaves(params))
    if size > LIMIT:
        raise ValueError(f"{size / 2**30:.2f} GiB of weights do not fit; the format ends at 2 GiB")

    def probabilities(images: jax.Array) -> jax.Array:
        return to_probabilities(module.apply({"params": params}, normalise(images)), activation)

    (n,) = jax_export.symbolic_shape("n")
    shape = (n, *module.image_size, module.image_channels)
    exported = jax_export.export(jax.jit(probabilities), platforms=PLATFORMS)(
        jax.ShapeDtypeStruct(shape, jnp.uint8)
    )
    return bytes(exported.serialize())


def write(path: str | Path, program: bytes, about: dict[str, Any]) -> None:
    """Writes program and description into one archive, which appears complete or not at all."""

    def fill(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("about.json", json.dumps(about, indent=2) + "\n")
            archive.writestr("model.jax", program)

    write_whole(Path(path).expanduser(), fill)
