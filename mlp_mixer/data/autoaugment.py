"""AutoAugment (arXiv 1805.09501): policies that were found for a data set, in Pillow.

The policy is the one of the paper's Table 7, read as torchvision reads it: ten strengths for each
operation, the first of which changes nothing, signs at random, nearest pixels, and black where an
image does not reach.
"""

import numpy as np

from mlp_mixer.data.pillow_operations import apply_operation, from_pillow, to_pillow

# A policy has pairs of operations, of which one is drawn for each image. Each operation has its
# probability and its strength, from 0 to 9.
Policy = tuple[tuple[tuple[str, float, int], tuple[str, float, int]], ...]
POLICIES: dict[str, Policy] = {
    "cifar10": (
        (("Invert", 0.1, 0), ("Contrast", 0.2, 6)),
        (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
        (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
        (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
        (("AutoContrast", 0.5, 0), ("Equalize", 0.9, 0)),
        (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
        (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
        (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
        (("Equalize", 0.6, 0), ("Equalize", 0.5, 0)),
        (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
        (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
        (("Equalize", 0.3, 0), ("AutoContrast", 0.4, 0)),
        (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
        (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
        (("Solarize", 0.5, 2), ("Invert", 0.0, 0)),
        (("Equalize", 0.2, 0), ("AutoContrast", 0.6, 0)),
        (("Equalize", 0.2, 0), ("Equalize", 0.6, 0)),
        (("Color", 0.9, 9), ("Equalize", 0.6, 0)),
        (("AutoContrast", 0.8, 0), ("Solarize", 0.2, 8)),
        (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
        (("Solarize", 0.4, 5), ("AutoContrast", 0.9, 0)),
        (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
        (("AutoContrast", 0.9, 0), ("Solarize", 0.8, 3)),
        (("Equalize", 0.8, 0), ("Invert", 0.1, 0)),
        (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, 0)),
    ),
}


def autoaugment(image: np.ndarray, rng: np.random.Generator, policy: str) -> np.ndarray:
    """Applies a pair of operations of a policy, drawn uniformly, each with its probability.

    Args:
        image: uint8 [h, w, c] with 1 or 3 channels.
        rng: source of randomness.
        policy: a key of POLICIES.
    """
    pairs = POLICIES[policy]
    pair = pairs[rng.integers(len(pairs))]
    happens, signs = rng.random(2), rng.choice((-1, 1), 2)
    changed = to_pillow(image)
    for (name, probability, strength), draw, sign in zip(pair, happens, signs, strict=True):
        if draw < probability:
            value = value_of(name, strength, int(sign), image.shape[:2])
            changed = apply_operation(name, changed, value)
    return from_pillow(changed)


def value_of(name: str, strength: int, sign: int, size: tuple[int, int]) -> float:
    """Returns what an operation takes for a strength from 0 to 9 and a sign of 1 or -1.

    Args:
        name: the operation.
        strength: 0 changes nothing.
        sign: which way; Posterize and Solarize have one only.
        size: (height, width) of the image in pixels.
    """
    share = strength / 9
    match name:
        case "Brightness" | "Color" | "Contrast" | "Sharpness":
            return 1 + sign * 0.9 * share
        case "Rotate":
            return sign * 30 * share
        case "ShearX" | "ShearY":
            return sign * 0.3 * share
        case "TranslateX" | "TranslateY":  # in AutoAugment 150 pixels of 331
            return sign * int(150 / 331 * size[name == "TranslateX"] * share)
        case "Posterize":
            return 8 - round(4 * share)
        case "Solarize":
            return 255 - 255 * share
    return 0.0
