"""What the arrays of a file cannot say: how the weights are used, and where they come from.

It is a JSON text in ASCII, in the comments of an `.npz` file's zip archive (see `npz`), or in the
metadata of a `.safetensors` file under the key "mlp_mixer". Other readers of these formats ignore
both.

    {"mlp_mixer": {"image_size": [448, 448], "gelu": "tanh", ...}, "crc32": 123}

image_size    height and width in pixels of the images that the weights are for
gelu          the form of the GELU that they are used with
pixel_range   the values of black and white that the stem expects, each a number or one for each
              channel; [-1, 1] in every file that is written here
class_names   one for each output of the head
crop, crop_fraction
              how images are cropped for evaluation; see `data.images.eval_view`
loss          the loss of the weights' training, which says what their logits mean
history       one entry for each conversion, the oldest first: "source", its "sha256", "changes"

What is unknown is left out. As a dict in memory, these are a source's settings.
"""

import json
import re
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from mlp_mixer.models.losses import LOSSES

KEY, CHECKSUM = "mlp_mixer", "crc32"
# What stays true of weights when their input size, format or number type changes.
LASTING = ("class_names", "crop", "crop_fraction", "loss")
CROPS = ("resmall", "resize")  # those of `data.images`

_BEGIN, _END = f'{{"{KEY}": {{', re.compile(rf', "{CHECKSUM}": \d+\}}$')


def checked(said: Mapping[str, Any], num_classes: int, where: str) -> dict[str, Any]:
    """Checks settings by the names of LASTING, and returns them in their proper types.

    Args:
        said: the known settings.
        num_classes: width of the head. For 0, no head, the class names are dropped.
        where: what to call the weights in an error.

    Raises:
        ValueError: a setting is invalid.
    """
    found = dict(said)
    names = found.pop("class_names", None)
    if "class_names" in said and num_classes:
        texts = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
        if not texts or len(names) != num_classes:
            raise ValueError(
                f"{where} names {len(names) if texts else 'no'} classes, but its head has "
                f"{num_classes}; they are a list of texts"
            )
        found["class_names"] = list(names)
    if (crop := found.get("crop", CROPS[0])) not in CROPS:
        raise ValueError(f"{where}: its crop is {crop!r}; it may be {' or '.join(CROPS)}")
    if (loss := found.get("loss", "softmax")) not in tuple(LOSSES):
        raise ValueError(f"{where}: its loss is {loss!r}; it may be {' or '.join(LOSSES)}")
    if "crop_fraction" in found:
        fraction = found["crop_fraction"]
        real = isinstance(fraction, float | int | np.floating) and not isinstance(fraction, bool)
        if not real or not 0 < fraction <= 1:
            raise ValueError(
                f"{where}: its crop_fraction is {fraction!r}; it may be a number over 0 and up to 1"
            )
        found["crop_fraction"] = float(fraction)
    return found


def encode(settings: dict[str, Any]) -> str:
    """Encodes settings as the text to put into a file."""
    return json.dumps({KEY: settings, CHECKSUM: _checksum(settings)})


def is_ours(text: str) -> bool:
    """Tells whether `encode` wrote a text, even if it is damaged (but not at both ends)."""
    return text.startswith(_BEGIN) or _END.search(text) is not None


def decode(text: str, where: str) -> dict[str, Any]:
    """Decodes the settings in a file's text; empty for a text that `encode` did not write.

    Raises:
        ValueError: the text is damaged.
    """
    if not is_ours(text):
        return {}
    try:
        found = json.loads(text)
        settings = found[KEY]
        whole = isinstance(settings, dict) and found[CHECKSUM] == _checksum(settings)
    except (ValueError, TypeError, KeyError, RecursionError):
        whole = False
    if not whole:
        raise ValueError(f"{where} is damaged: its metadata does not fit its checksum")
    return settings


def _checksum(settings: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(settings, sort_keys=True).encode())
