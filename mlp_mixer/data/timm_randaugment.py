"""RandAugment as timm has it, under the name rand-m9-mstd0.5-inc1 and the like, with Pillow.

DeiT, ConvNeXt and the recipe of arXiv 2303.01500 use it. It differs from the paper's and from the
Mixer authors' (`randaugment`): each operation is applied with probability one half, a magnitude may
be drawn from a normal distribution, a larger one never changes less, translations are shares of the
image, and there is no cutout. Uncovered pixels are grey.
"""

import numpy as np
from PIL import Image

from mlp_mixer.data.pillow_operations import apply_operation, from_pillow, to_pillow

OPERATIONS = (
    "AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "SolarizeAdd", "Color",
    "Contrast", "Brightness", "Sharpness", "ShearX", "ShearY", "TranslateX", "TranslateY",
)  # fmt: skip
PROBABILITY = 0.5  # of each operation that was drawn
LARGEST = 10.0  # magnitude; larger ones are cut to it
FILL = 128  # grey level of uncovered pixels
_RESAMPLINGS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)


def randaugment(
    image: np.ndarray, rng: np.random.Generator, layers: int, magnitude: float, std: float = 0.0
) -> np.ndarray:
    """Draws `layers` operations uniformly, and applies each with probability one half.

    Args:
        image: uint8 [h, w, c] with 1 or 3 channels.
        rng: source of randomness.
        layers: number of operations in sequence; 2 in timm.
        magnitude: mean strength, 0 to 10; 9 in most recipes.
        std: standard deviation of the strength, which is drawn for each operation.
    """
    changed = to_pillow(image)
    for _ in range(layers):
        name = OPERATIONS[rng.integers(len(OPERATIONS))]
        happens, sign = rng.random() < PROBABILITY, int(rng.choice((-1, 1)))
        level = float(np.clip(rng.normal(magnitude, std), 0, LARGEST))
        resample = _RESAMPLINGS[rng.integers(2)]
        if happens:
            value = value_of(name, level, sign, image.shape[:2])
            changed = apply_operation(name, changed, value, resample, FILL)
    return from_pillow(changed)


def value_of(name: str, magnitude: float, sign: int, size: tuple[int, int]) -> float:
    """Returns what an operation takes for a magnitude from 0 to 10 and a sign of 1 or -1."""
    share = magnitude / LARGEST
    match name:
        case "Brightness" | "Color" | "Contrast" | "Sharpness":
            return max(0.1, 1 + sign * 0.9 * share)
        case "Rotate":
            return sign * 30 * share
        case "ShearX" | "ShearY":
            return sign * 0.3 * share
        case "TranslateX" | "TranslateY":
            return sign * 0.45 * share * size[name == "TranslateX"]
        case "Posterize":
            return 4 - int(4 * share)
        case "Solarize":
            return 256 - min(256, int(256 * share))
        case "SolarizeAdd":
            return min(128, int(110 * share))
    return 0.0
