"""What the arrays of a file cannot say: how the weights are used, and where they come from.

One JSON text in ASCII, in the comments of the zip archive that an `.npz` file is (see `npz`), or in
the metadata of a `.safetensors` file under the key "mlp_mixer". Other readers of these formats
ignore both.

    {"mlp_mixer": {"image_size": [448, 448], "gelu": "tanh", ...}, "crc32": 123}

image_size    height and width in pixels that the weights are for
gelu          the kind that they are computed with
pixel_range   what black and white are for the stem, each a number or one for each channel;
              [-1, 1] in every file that is written here
class_names   one for each output of the head
crop, crop_fraction
              how images are cut out for evaluation; see `data.images.eval_view`
loss          that the weights were trained with, which says what their outputs mean
history       one entry for each conversion, the oldest first: "source", its "sha256", "changes"

What is not known is left out. In memory, as a dict, these are called a source's settings.
"""

import json
import re
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from mlp_mixer.models.losses import LOSSES

KEY, CHECKSUM = "mlp_mixer", "crc32"
# What stays true of weights whatever their size, format and number type becomes.
LASTING = ("class_names", "crop", "crop_fraction", "loss")
CROPS = ("resmall", "resize")  # of `data.images`

_BEGIN, _END = f'{{"{KEY}": {{', re.compile(rf', "{CHECKSUM}": \d+\}}$')


def checked(said: Mapping[str, Any], num_classes: int, where: str) -> dict[str, Any]:
    """Returns what is said of weights by the names of LASTING, in the types that it has there.

    Args:
        said: values by name, of what is known.
        num_classes: of the head; 0 where there is none, which then has no class names either.
        where: what to call the weights in an error.

    Raises:
        ValueError: a value is not what it should be.
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
    """Settings as the text to put into a file."""
    return json.dumps({KEY: settings, CHECKSUM: _checksum(settings)})


def is_ours(text: str) -> bool:
    """Whether `encode` has written a text; also of one that is damaged, but not at both ends."""
    return text.startswith(_BEGIN) or _END.search(text) is not None


def decode(text: str, where: str) -> dict[str, Any]:
    """Settings from the text of a file; empty for texts that `encode` has not written.

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
