"""The Hugging Face hub, and what timm's models say about themselves there.

A timm model is called ARCHITECTURE.TAG, such as mixer_b16_224.miil_in21k_ft_in1k, and has a
config.json beside its model.safetensors. The tag and the config are also used for local copies.
"""

import json
import logging
import re
from pathlib import Path
from typing import Any

from mlp_mixer.weights import pixel_range

log = logging.getLogger(__name__)

PREFIX = "hf:"
WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"


def fetch(repository: str) -> Path:
    """Returns the local copy of a repository's weights, beside its config.json if it has one.

    Raises:
        FileNotFoundError: there is no such repository, or it has no weights.
        ValueError: huggingface_hub is not installed, or the name cannot be a repository's.
        OSError: the hub cannot be reached.
    """
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise ValueError(
            f"{PREFIX}{repository} needs the package huggingface_hub: pip install huggingface_hub"
        ) from error
    try:
        path = Path(huggingface_hub.hf_hub_download(repository, WEIGHTS_FILE))
    except errors.EntryNotFoundError as error:
        if isinstance(error, errors.LocalEntryNotFoundError):
            raise OSError(
                f"{PREFIX}{repository}: the Hugging Face hub cannot be reached"
            ) from error
        raise FileNotFoundError(f"{PREFIX}{repository} has no {WEIGHTS_FILE}") from error
    except errors.RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"the Hugging Face hub has no {repository}, or it is private and needs `hf auth login`"
        ) from error
    except errors.HFValidationError as error:
        raise ValueError(f"{PREFIX}{repository}: {error}") from error
    try:
        huggingface_hub.hf_hub_download(repository, CONFIG_FILE)
    except errors.EntryNotFoundError:  # it has none, or the hub cannot be reached now
        log.info("%s%s: no %s; only its name says what it is", PREFIX, repository, CONFIG_FILE)
    return path


def settings(name: str, path: Path) -> dict[str, Any]:
    """Returns the settings of a file by timm's config.json beside it and by its name.

    The settings are those of `metadata`; the config's come first.

    Raises:
        ValueError: timm's config.json has invalid values.
    """
    config = _read_config(path.with_name(CONFIG_FILE))
    details = config.get("pretrained_cfg", config)
    found = {}
    if tag := details.get("tag") or tag_of(name) or tag_of(path.name):
        found = _settings_of_tag(name, tag)
    try:
        if "mean" in details and "std" in details:
            found["pixel_range"] = pixel_range.of_mean_and_std(details["mean"], details["std"])
        if "crop_pct" in details:
            found["crop_fraction"] = float(details["crop_pct"])
        if names := config.get("label_names") or details.get("label_names"):
            found["class_names"] = [str(label) for label in names]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path.with_name(CONFIG_FILE)}: {error}") from error
    return found


def tag_of(name: str) -> str:
    """Returns the tag in the name of a timm Mixer, such as "goog_in21k"; "" if there is none.

    The names of timm's first files, such as jx_mixer_b16_224_in21k-617b3de2, are known as well.
    """
    if found := re.search(r"jx_mixer_[a-z]+\d+_\d+(_in21k)?-", name):
        return "goog_in21k" if found[1] else "goog_in21k_ft_in1k"
    if found := re.search(r"mixer_[a-z]+\d+_\d+[._]((?:goog|miil)(?:_\w+)?)", name):
        return "miil_in21k_ft_in1k" if found[1] == "miil" else found[1]
    return ""


def _read_config(path: Path) -> dict[str, Any]:
    """Returns timm's config.json for a Mixer; empty if there is none."""
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return {}
    architecture = config.get("architecture") if isinstance(config, dict) else None
    is_mixer = isinstance(architecture, str) and architecture.startswith("mixer_")
    return config if is_mixer and isinstance(config.get("pretrained_cfg", {}), dict) else {}


def _settings_of_tag(name: str, tag: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if tag.startswith("goog_"):
        log.info("%s: weights that were trained with the tanh GELU, so that is computed; timm "
                 "itself computes the exact one (gelu='exact')", name)  # fmt: skip
        found["gelu"] = "tanh"
    if tag == "goog_in21k_ft_in1k":
        log.warning("%s: whatever the tag says, these weights were trained on ImageNet-1k alone; "
                    "no fine-tuned ones were released (docs/reference/weights.md)",
                    name)  # fmt: skip
    if tag.startswith("miil_"):
        found["pixel_range"] = [0.0, 1.0]
    if tag.endswith("in1k"):
        found["class_names"] = "imagenet1k"
    elif tag == "goog_in21k":
        found["class_names"] = "imagenet21k"
    return found
