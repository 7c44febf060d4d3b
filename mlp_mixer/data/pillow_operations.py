"""Pillow's changes of an image by name, of which `autoaugment` and `timm_randaugment` are made."""

import math

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

FACTORS = ("Brightness", "Color", "Contrast", "Sharpness")
# The pixel (x, y) is taken from (a x + b y + c, d x + e y + f).
MATRICES = {
    "ShearX": lambda value: (1, value, 0, 0, 1, 0),
    "ShearY": lambda value: (1, 0, 0, value, 1, 0),
    "TranslateX": lambda value: (1, 0, value, 0, 1, 0),
    "TranslateY": lambda value: (1, 0, 0, 0, 1, value),
}


def to_pillow(image: np.ndarray) -> Image.Image:
    """Returns an image, uint8 [h, w, 1 or 3 channels], as Pillow has it."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def from_pillow(image: Image.Image) -> np.ndarray:
    """Returns an image of Pillow's as uint8 [h, w, 1 or 3 channels]."""
    array = np.asarray(image)
    return array.reshape(*array.shape[:2], -1)


def apply_operation(
    name: str,
    image: Image.Image,
    value: float = 0.0,
    resample: Image.Resampling = Image.Resampling.NEAREST,
    grey: int = 0,
) -> Image.Image:
    """Applies one operation.

    Args:
        name: AutoContrast, Equalize, Invert; Posterize, Solarize, SolarizeAdd; one of FACTORS;
            Rotate; or one of MATRICES.
        image: of mode RGB or L.
        value: what it takes: the bits that Posterize keeps, the lowest level that Solarize inverts,
            what SolarizeAdd adds to levels under 128, a factor (1 changes nothing), the degrees of
            Rotate, the pixels by which a shear moves each row or column more than the one before,
            or the pixels of a translation. The first three operations take none.
        resample: how geometric operations find a pixel between others.
        grey: level of uncovered pixels.

    Raises:
        ValueError: the operation is unknown.
    """
    fill = (grey,) * len(image.getbands())
    if name in FACTORS:
        return getattr(ImageEnhance, name)(image).enhance(value)
    if name in MATRICES:
        affine, matrix = Image.Transform.AFFINE, MATRICES[name](value)
        return image.transform(image.size, affine, matrix, resample, fillcolor=fill)
    match name:
        case "Rotate":
            return image.rotate(value, resample, fillcolor=fill)
        case "AutoContrast":
            return ImageOps.autocontrast(image)
        case "Equalize":
            return ImageOps.equalize(image)
        case "Invert":
            return ImageOps.invert(image)
        case "Posterize":  # ImageOps.posterize refuses to keep no bit
            kept = 256 - (1 << 8 - int(value))
            return image.point([level & kept for level in range(256)] * len(fill))
        case "Solarize":
            return ImageOps.solarize(image, math.ceil(value))
        case "SolarizeAdd":
            table = [min(255, level + int(value)) if level < 128 else level for level in range(256)]
            return image.point(table * len(fill))
    raise ValueError(f"unknown operation {name!r}")
