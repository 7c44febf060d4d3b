"""`save`: writes a Mixer's parameters as a published-style file that says how to use them."""

from collections.abc import Sequence
from os import PathLike
from typing import Any, Literal

import jax
import numpy as np
from flax import traverse_util

from mlp_mixer.models import mixer
from mlp_mixer.models.init import shapes
from mlp_mixer.models.losses import Loss
from mlp_mixer.runtime.storage import as_path
from mlp_mixer.weights import metadata, naming, npz, pixel_range
from mlp_mixer.weights.finite import not_finite


def save(
    path: str | PathLike,
    module: mixer.MlpMixer,
    params: dict[str, Any],
    *,
    class_names: Sequence[str] | None = None,
    crop: Literal["resmall", "resize"] | None = None,
    crop_fraction: float | None = None,
    loss: Loss | None = None,
) -> None:
    """Writes parameters as a published-style .npz file, which appears complete or not at all.

    The file also says what its arrays cannot: the module's image size and form of the GELU, and the
    optional arguments as far as they are given. If `path` is a symbolic link, its target is
    written.

    Args:
        path: an .npz file.
        module: the Mixer that the parameters belong to.
        params: its parameters, a nested dict of arrays with the published names.
        class_names: one for each output.
        crop: how images are resized for evaluation: "resmall" keeps the aspect ratio, "resize"
            does not.
        crop_fraction: share of each side of the resized image that is seen.
        loss: the loss that the parameters were trained with.

    Raises:
        ValueError: the parameters do not fit the module, or hold numbers that are NaN or infinite
            (names the arrays); or the module is not a Mixer, the path does not end in .npz, or an
            optional argument is invalid.
    """
    path = as_path(path)
    if not isinstance(module, mixer.MlpMixer):
        raise ValueError(
            f"save(path, module, params): the module is a {type(module).__name__}; files hold "
            "the weights of a Mixer, which is an MlpMixer"
        )
    if path.suffix != ".npz":
        raise ValueError(
            f"{path} should end in .npz: save writes .npz files, and convert makes .safetensors "
            "of them"
        )
    flat = traverse_util.flatten_dict(jax.device_get(params), sep="/")
    have = {name: np.shape(array) for name, array in flat.items()}
    if differing := naming.differences(have, shapes(module)):
        raise ValueError(
            f"{path}: the parameters are not those of the module:\n" + "\n".join(differing)
        )
    naming.check_floats(flat, str(path))
    if bad := [f"  {name}: {n} numbers" for name, a in flat.items() if (n := not_finite(a))]:
        raise ValueError(f"{path}: numbers that are NaN or infinite:\n" + "\n".join(bad))
    said = {"class_names": class_names, "crop": crop, "crop_fraction": crop_fraction, "loss": loss}
    said = {name: value for name, value in said.items() if value is not None}
    said = metadata.checked(said, module.num_classes, str(path))
    npz.write(path, flat, settings_of(module) | said)


def settings_of(module: mixer.MlpMixer) -> dict[str, Any]:
    """Returns what a file of a module must say beside its arrays; see `metadata`."""
    return {
        "image_size": list(module.image_size),
        "gelu": module.gelu,
        "pixel_range": list(pixel_range.RANGE),
    }
