"""The weights of a training run: where they are in its workdir, and which model they fit."""

import logging
from typing import Any

from mlp_mixer.models.architectures import ARCHITECTURES
from mlp_mixer.models.permuted import Permuted
from mlp_mixer.runs import checkpoints
from mlp_mixer.runs.folder import (
    CLASSES_FILE,
    CONFIG_FILE,
    SWEEP_FILE,
    SWEEP_FULL,
    SWEEP_RATE,
    WEIGHTS_FILE,
    is_checkpoint,
    read_classes,
    read_config,
    workdir_of,
)
from mlp_mixer.runtime.storage import AnyPath, absolute, names

log = logging.getLogger(__name__)


def find(folder: AnyPath) -> tuple[AnyPath, dict[str, Any]]:
    """Finds the weights of a workdir or of one of its checkpoints, and the run's config.

    The config is empty for a checkpoint that is no longer in its workdir.

    Raises:
        FileNotFoundError: the workdir has no weights.
        ValueError: the folder is neither, or all checkpoints are damaged.
    """
    if (folder / CONFIG_FILE).exists():
        weights = folder / WEIGHTS_FILE
        if not weights.exists():
            weights = checkpoints.latest(folder)
        best = checkpoints.best(folder)
        log.info(
            "%s: weights of %s%s", folder,
            f"step {weights.name}" if is_checkpoint(weights) else "the run's end",
            f"; the best {best.scalar}, {best.value:.4g}, is in {checkpoints.FOLDER}/{best.step}"
            if best else "",
        )  # fmt: skip
        return weights, read_config(folder)
    if is_checkpoint(folder):
        if workdir := workdir_of(folder):
            return folder, read_config(workdir)
        log.warning(
            "%s: a checkpoint away from its workdir, where nothing says how its model was made and "
            "is used. It is assumed to be a Mixer with the tanh GELU that sees pixels in their "
            "order, for square images, evaluated with crop resmall 0.875, trained with the softmax "
            "loss, and there are no class names. If that is not so, load the run's workdir, or a "
            ".npz that convert has made of WORKDIR/%s/%s",
            folder, checkpoints.FOLDER, absolute(folder).name,
        )  # fmt: skip
        return folder, {}
    if _is_of_sweep(folder):
        full = folder / SWEEP_FULL
        yet = "" if full.exists() else ", once the sweep has come to it"
        raise ValueError(
            f"{folder} is the folder of a sweep, which holds several runs: use {full}, the one "
            f"with the best learning rate on all training images{yet}"
        )
    raise ValueError(
        f"{folder} holds no weights: it is neither the workdir of a training run (no "
        f"{CONFIG_FILE}) nor one of its checkpoints (WORKDIR/{checkpoints.FOLDER}/STEP)"
    )


def _is_of_sweep(folder: AnyPath) -> bool:
    """Returns whether a folder holds the runs of a sweep, finished or not."""
    if (folder / SWEEP_FILE).exists():
        return True
    rates = (name for name in names(folder) if name.startswith(SWEEP_RATE))
    return any((folder / rate / CONFIG_FILE).exists() for rate in rates)


def settings(config: dict[str, Any], workdir: AnyPath) -> dict[str, Any]:
    """Returns what a run says about its weights; see `metadata`."""
    found = {"gelu": config.get("model", {}).get("gelu", "tanh")}
    for key, field in (
        ("image_size", "image_size"),
        ("crop", "eval_crop"),
        ("crop_fraction", "eval_crop_fraction"),
        ("loss", "loss"),
    ):
        if field in config:
            found[key] = config[field]
    if (workdir / CLASSES_FILE).exists():
        found["class_names"] = list(read_classes(workdir))
    return found


def kind(config: dict[str, Any]) -> str:
    """Says what is unusual about a run's model; "" for a Mixer that sees pixels in order."""
    if _permutation(config):
        return "a model of permuted pixels"
    architecture = config.get("architecture", "mixer")
    return (
        "" if architecture == "mixer" else f"a run of architecture={architecture}, not of a Mixer"
    )


def other_model(config: dict[str, Any], num_classes: int) -> Any:
    """Makes the model of a run whose architecture is not the Mixer, without a permutation."""
    return ARCHITECTURES[config["architecture"]].create(
        num_classes=num_classes,
        image_size=tuple(config["image_size"]),
        image_channels=config["image_channels"],
        **config["model"],
    )


def permuted(module: Any, config: dict[str, Any]) -> Any:
    """Puts a module behind the pixel permutation of a run's config, if it has one."""
    fields = _permutation(config)
    return Permuted(module, **fields) if fields else module


def _permutation(config: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of config.permuted; empty if pixels stay in their order."""
    fields = config.get("permuted") or {"order": "original"}
    if fields["order"] == "original":
        return {}
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
