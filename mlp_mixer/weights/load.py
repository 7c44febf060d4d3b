"""`load` and `save`: between files and (module, params)."""

import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from mlp_mixer.models import mixer
from mlp_mixer.training import checkpoint
from mlp_mixer.training import workdir as run
from mlp_mixer.weights import layouts, npz, resolution

log = logging.getLogger(__name__)


def load(
    path: str | Path,
    num_classes: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    patch_size: int | tuple[int, int] | None = None,
    resize: str = "auto",
) -> tuple[mixer.MlpMixer, dict[str, Any]]:
    """Reads Mixer weights: the module they fit, and its parameters.

    Variant, input size and number of classes are read from the arrays themselves.

    Args:
        path: a published-style .npz file, or the workdir of a training run (its model.npz, or
            where it is not finished its newest checkpoint).
        num_classes: None keeps the head. 0 leaves it out; any other number that is not the file's
            puts a new head there, which starts at zero.
        image_size: pixels, one number for square or (height, width). None keeps the file's; any
            other size that the patches tile is possible, see `resize`. Where the weights' own
            tokens form no square, this is the size they were made for.
        patch_size: pixels, likewise. Another one than the file's resizes the stem as FlexiViT does.
        resize: how the token-mixing weights get to another grid of patches. "tile" is the paper's
            block-diagonal scheme for whole multiples, which makes tokens_mlp_dim grow as the number
            of patches does; "resample" resamples their filters over the grid, as is done with the
            position embeddings of ViT, and changes no width. "auto" tiles where image_size is a
            whole multiple of the file's and the patches stay, else resamples.

    Returns:
        (module, params): `module.apply({"params": params}, images)` gives logits. params is a
        nested dict of float32 NumPy arrays with the published names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not Mixer weights, or they cannot be given this size; says why.
    """
    wanted = None if image_size is None else mixer.as_pair(image_size)
    if Path(path).is_dir():
        arrays, made_for = _read_workdir(Path(path))
    else:
        arrays, made_for = npz.read(path), None
    module, params = layouts.to_tree(arrays, str(path), made_for, otherwise=wanted)
    trained = module
    module = resolution.resize_module(module, wanted, patch_size, resize)
    params = resolution.resize_params(params, trained, wanted, patch_size, resize)
    if changes := resolution.describe(trained, module):
        log.info("%s: %s", path, changes)
    if num_classes is not None and num_classes != module.num_classes:
        params = {name: child for name, child in params.items() if name != "head"}
        if num_classes:
            log.warning("%s: a new head for %d classes, all zero", path, num_classes)
            params["head"] = {
                "kernel": np.zeros((module.hidden_dim, num_classes), np.float32),
                "bias": np.zeros(num_classes, np.float32),
            }
        module = module.clone(num_classes=num_classes)
    return module, params


def save(path: str | Path, params: dict[str, Any]) -> None:
    """Writes parameters as a published-style .npz file, which appears complete or not at all."""
    npz.write(path, jax.device_get(params))


def _read_workdir(workdir: Path) -> tuple[layouts.Arrays, tuple[int, int]]:
    """The newest weights of a training run, and the image size they are for."""
    config = run.read_config(workdir)
    if (workdir / run.WEIGHTS_FILE).exists():
        arrays = npz.read(workdir / run.WEIGHTS_FILE)
    else:
        arrays = traverse_util.flatten_dict(checkpoint.restore_params(workdir), sep="/")
    return arrays, tuple(config["image_size"])
