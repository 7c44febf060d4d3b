"""Grey images of more than 8 bits, whose files rarely say which values are black and white."""

import logging
from typing import Any

import numpy as np
from PIL import Image

log = logging.getLogger(__name__)

BITS, WHITE_IS_ZERO, SAMPLE_FORMAT, SMALLEST, LARGEST = 258, 262, 339, 340, 341  # TIFF tags
DARK = 16  # of 255: the brightest that 12-bit values in a 16-bit file can be
_warned: set[str] = set()


def to_8_bits(image: Image.Image, where: str) -> Image.Image:
    """Converts an image of 16 or 32 bits or of floats (Pillow's modes I and F) to 8-bit grey.

    Black and white are TIFF's SMinSampleValue and SMaxSampleValue if the file has them, else the
    full range of 16 or 12 bits. For 32 bits and floats they are guessed from the values: the
    smallest that fits of 0 to 1 (floats only), 0 to 255 and 0 to 65535, else the image's own
    minimum and maximum. The first guess of each kind is logged.

    Raises:
        ValueError: all values are infinite or not a number.
    """
    tags = getattr(image, "tag_v2", {})
    values = np.asarray(image)
    if image.mode == "I" and _number(tags, BITS) == 32 and _number(tags, SAMPLE_FORMAT) == 1:
        values = values.view(np.uint32)  # Pillow knows only signed ones
    low, high = _number(tags, SMALLEST) or 0, _number(tags, LARGEST)
    if high is None and image.mode.startswith("I;16"):
        high = 2 ** (_number(tags, BITS) or 16) - 1
    elif high is None and image.format == "PPM" and image.mode == "I":
        high = 65535  # Pillow rescales to this, whatever maximum the file declares
    if high is None or high <= low:
        low, high = _guess(values, where)
    levels = values.astype(np.float32) - np.float32(low)
    if image.mode == "F":
        levels = levels * np.float32(255 / (high - low)) + np.float32(0.5)
    else:
        levels *= np.float32(256 / (high - low + 1))  # drops the low bits, as libpng does
    levels = np.nan_to_num(np.clip(levels, 0, 255)).astype(np.uint8)
    return Image.fromarray(255 - levels if _number(tags, WHITE_IS_ZERO) == 0 else levels)


def check_dark(image: np.ndarray, where: str) -> None:
    """Warns once if an image that had 16 bits, now uint8 [h, w, c], used few of their values."""
    if image.max() < DARK:
        _warn(
            "16 bits",
            f"{where} is nearly black: of the 16 bits of a pixel, 0 to 65535, it uses those up to "
            f"{DARK * 256 - 1} at most",
        )


def transparent_colour(image: Image.Image, bits: int) -> int | tuple[int, ...] | bytes | None:
    """Returns a PNG's transparent grey or colour in 8 bits; Pillow keeps the file's bit depth."""
    colour = image.info.get("transparency")
    scale = {2: 85, 4: 17, 16: 1 / 256}.get(bits, 1)
    if image.mode == "P" or colour is None:
        return colour
    return (
        tuple(int(c * scale) for c in colour) if isinstance(colour, tuple) else int(colour * scale)
    )


def _guess(values: np.ndarray, where: str) -> tuple[float, float]:
    """Guesses which values are black and white."""
    kind, limits = "integers of 32 bits", [255, 65535]
    if values.dtype.kind == "f":
        kind, limits = "floats", [1, 255, 65535]
        values = values[np.isfinite(values)]
        if not values.size:
            raise ValueError("all its values are infinite or not a number")
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= limits[-1]:
        low, high = 0, next(limit for limit in limits if high <= limit)
    _warn(
        kind,
        f"{where} has {kind} for pixels and does not say their range; by its values {low:g} is "
        f"taken for black and {high:g} for white, and so on for each image of the kind",
    )
    return low, high if high > low else low + 1


def _warn(kind: str, message: str) -> None:
    if kind not in _warned:
        _warned.add(kind)
        log.warning(
            "%s. To be sure save such images with 8 bits, or as TIFF with the tag SMaxSampleValue",
            message,
        )


def _number(tags: Any, tag: int) -> float | None:
    """Returns the (first) number in a TIFF tag; None if there is none."""
    try:
        return float(np.ravel(tags[tag])[0])
    except (KeyError, ValueError, TypeError, IndexError):
        return None
