"""Exports a model as one file that runs with jax alone; docs/guides/export.md."""

import json
import zipfile
from os import PathLike, fspath
from typing import Any, BinaryIO, NamedTuple

import jax
import jax.numpy as jnp
from jax import export as jax_export

from mlp_mixer.inference.classifier import load_classifier
from mlp_mixer.models import mixer
from mlp_mixer.models.dtypes import Dtype
from mlp_mixer.models.losses import Loss, to_probabilities
from mlp_mixer.models.pixels import forward
from mlp_mixer.runtime.storage import AnyPath, as_path, check_no_folder, write_whole
from mlp_mixer.weights.files import open_weights
from mlp_mixer.weights.resize import Resize

PLATFORMS = ("cpu", "cuda", "tpu")
LIMIT = 2**31 - 2**24  # bytes of weights: a FlatBuffer holds 2 GiB, and the program needs some
ACTIVATIONS = ("softmax", "sigmoid")
WEIGHTS_SUFFIXES = (".npz", ".safetensors")


class Exported(NamedTuple):
    """The file that `export` wrote, and what it says about itself."""

    path: AnyPath
    about: dict[str, Any]


def export(
    source: str | PathLike,
    destination: str | PathLike,
    *,
    image_size: int | tuple[int, int] | None = None,
    patch_size: int | tuple[int, int] | None = None,
    resize: Resize = "auto",
    activation: Loss | None = None,
    dtype: Dtype = "float32",
) -> Exported:
    """Writes weights and their model as one file that runs with jax alone.

    Args:
        source: weights of any source that `mlp_mixer.load` reads.
        destination: the file, a .zip; none of those that the weights are read from.
        image_size: the model's, if another than the weights'; see `mlp_mixer.load`.
        patch_size: likewise.
        resize: how weights are adapted to other sizes, "auto", "tile" or "resample".
        activation: turns logits into probabilities; None for that of the run, else "softmax".
        dtype: number type of the computation. float32 is sound on every device that the file may
            come to; bfloat16 is faster on most (docs/lab/speed.md); "auto" asks this machine.

    Raises:
        FileNotFoundError, ValueError, OSError: as for `load` and `serialise`; also if the
            destination is a folder or the source, or named as weights are.
    """
    source, path = fspath(source), as_path(destination)
    if path.suffix.lower() in WEIGHTS_SUFFIXES:
        raise ValueError(
            f"{path}: an export is a program, not weights; give it a name that ends in .zip, or "
            f"use convert (mlp-mixer convert), which writes {' and '.join(WEIGHTS_SUFFIXES)} files"
        )
    check_no_folder(path)  # like all that follows, before anything takes long
    with open_weights(source) as opened:
        opened.check_not_overwritten(path)
        made_from = {"source": source, "sha256": opened.sha256()}
    classifier = load_classifier(
        source, image_size=image_size, patch_size=patch_size, resize=resize, dtype=dtype
    )
    module = classifier.module
    activation = activation or classifier.loss
    about = {
        # How to resize and crop images; see data.images.eval_view.
        "input": {
            "dtype": "uint8",
            "shape": ["n", *module.image_size, module.image_channels],
            "crop": classifier.crop,
            "crop_fraction": classifier.crop_fraction,
        },
        "output": {"activation": activation, "shape": ["n", module.num_classes]},
        "computes_in": jnp.dtype(module.dtype).name,
        "class_names": classifier.output_names,
        "made_from": made_from,
        "made_with": f"jax {jax.__version__}",
        "platforms": PLATFORMS,
    }
    write(path, serialise(module, mixer.rounded(module, classifier.params), activation), about)
    return Exported(path, about)


def serialise(module: Any, params: dict[str, Any], activation: Loss = "softmax") -> bytes:
    """Serialises the program from pixels to probabilities, with its weights, by jax.export.

    The program takes images uint8 [n, h, w, c], for any n, and returns float32 [n, classes].

    Args:
        module: a model with a head.
        params: its parameters.
        activation: "softmax", or "sigmoid" for weights that were trained with that loss.

    Raises:
        ValueError: there is no head, the activation is unknown, or the weights exceed 2 GiB.
    """
    if not module.num_classes:
        raise ValueError("the weights have no head, so there are no probabilities to export")
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}; use {' or '.join(ACTIVATIONS)}")
    size = sum(x.nbytes for x in jax.tree.leaves(params))
    if size > LIMIT:
        raise ValueError(f"{size / 2**30:.2f} GiB of weights do not fit; the format ends at 2 GiB")

    def probabilities(images: jax.Array) -> jax.Array:
        return to_probabilities(forward(module, params, images), activation)

    (n,) = jax_export.symbolic_shape("n")
    shape = (n, *module.image_size, module.image_channels)
    exported = jax_export.export(jax.jit(probabilities), platforms=PLATFORMS)(
        jax.ShapeDtypeStruct(shape, jnp.uint8)
    )
    return bytes(exported.serialize())


def write(path: str | PathLike, program: bytes, about: dict[str, Any]) -> None:
    """Writes program and description to one archive, which appears complete or not at all."""

    def fill(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("about.json", json.dumps(about, indent=2) + "\n")
            archive.writestr("model.jax", program)

    write_whole(as_path(path), fill)
