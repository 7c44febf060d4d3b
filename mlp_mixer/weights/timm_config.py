"""timm's config.json of a model, which lies beside its model.safetensors: read, and written.

A timm model is called ARCHITECTURE.TAG, such as mixer_b16_224.miil_in21k_ft_in1k. The tag and the
config say what the arrays cannot, for a repository on the hub as for local copies.
"""

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlp_mixer.models import mixer
from mlp_mixer.weights import pixel_range
from mlp_mixer.weights.hub import CONFIG_FILE

log = logging.getLogger(__name__)

# timm's crop_mode, and our crop: that keeps the aspect ratio, and that does not.
CROPS = {"center": "resmall", "squash": "resize"}
_CROP_MODES = {ours: theirs for theirs, ours in CROPS.items()}
_PATCHES = {"S": (16, 32), "B": (16, 32), "L": (16, 32)}  # of which timm has architectures
_RATIOS = [0.5, 4.0]  # timm's widths of the two MLPs, as shares of hidden_dim


def settings(name: str, path: Path) -> dict[str, Any]:
    """Returns the settings of a file by timm's config.json beside it and by its name.

    The settings are those of `metadata`; the config's come first.

    Raises:
        ValueError: timm's config.json has invalid values.
    """
    config = _read(path.with_name(CONFIG_FILE))
    details = config.get("pretrained_cfg", config)
    found = {}
    tag = details.get("tag") or tag_of(name) or tag_of(path.name)
    # timm keeps the tag of the weights that it began with; these are others, trained in timm.
    counts = {one["num_classes"] for one in (config, details) if "num_classes" in one}
    if tag and len(counts) < 2:
        found = _settings_of_tag(name, tag)
    try:
        if "mean" in details and "std" in details:
            found["pixel_range"] = pixel_range.of_mean_and_std(details["mean"], details["std"])
        if "crop_pct" in details:
            found["crop_fraction"] = float(details["crop_pct"])
        if crop := CROPS.get(details.get("crop_mode", "")):
            found["crop"] = crop
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


def architecture_of(module: mixer.MlpMixer) -> str | None:
    """Returns the name of timm's architecture that a module is, or None if timm has none.

    timm's take any image size, channels, classes and widths of the MLPs; not so their patch size,
    number of blocks and hidden_dim.
    """
    for size, widths in mixer.SIZES.items():
        same = all(getattr(module, name) == widths[name] for name in ("num_blocks", "hidden_dim"))
        if same and module.patch_size in [(patch, patch) for patch in _PATCHES.get(size, ())]:
            return f"mixer_{size.lower()}{module.patch_size[0]}_224"
    return None


def make(module: mixer.MlpMixer, said: Mapping[str, Any]) -> dict[str, Any]:
    """Makes the config.json of a module for pixels in [-1, 1] that timm's create_model reads.

    Where timm has no such architecture, "model_args" are all that its class MlpMixer takes.

    Args:
        module: a Mixer.
        said: the settings of metadata.LASTING that are known.
    """
    architecture, channels = architecture_of(module), module.image_channels
    ratios = [_ratio(width, module.hidden_dim)
              for width in (module.tokens_mlp_dim, module.channels_mlp_dim)]  # fmt: skip
    arguments: dict[str, Any] = {} if ratios == _RATIOS else {"mlp_ratio": ratios}
    if architecture is None:
        arguments = {
            "img_size": list(module.image_size),
            "in_chans": channels,
            "patch_size": list(module.patch_size),
            "num_blocks": module.num_blocks,
            "embed_dim": module.hidden_dim,
            "mlp_ratio": ratios,
        }
    crop = said.get("crop", "resmall")
    details = {
        "custom_load": False,
        "input_size": [channels, *module.image_size],
        "fixed_input_size": True,
        # The nearest to what is done here, for images that are made smaller or larger: resmall
        # averages over areas, and resize interpolates without looking further than two pixels.
        "interpolation": "bilinear",
        "crop_pct": said.get("crop_fraction", 0.875),
        "crop_mode": _CROP_MODES[crop],
        "mean": [0.5] * channels,
        "std": [0.5] * channels,
        "num_classes": module.num_classes,
        "pool_size": None,
        "first_conv": "stem.proj",
        "classifier": "head",
    }
    names = said.get("class_names")
    return {
        "architecture": architecture or "mlp_mixer",
        "num_classes": module.num_classes,
        "num_features": module.hidden_dim,
        "global_pool": "avg",
        **({"model_args": arguments} if arguments else {}),
        **({"label_names": list(names)} if names else {}),
        "pretrained_cfg": details,
    }


def _ratio(width: int, hidden_dim: int) -> float:
    """Returns the share of which timm computes the width as int(share * hidden_dim)."""
    share = width / hidden_dim
    return share if int(share * hidden_dim) == width else (width + 0.5) / hidden_dim


def _read(path: Path) -> dict[str, Any]:
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
