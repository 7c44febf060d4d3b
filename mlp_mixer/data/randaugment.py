"""RandAugment (arXiv 1909.13719) as in the Mixer authors' code, in uint8 on the host.

The reference is big_vision's pp/archive/autoaugment.py, which was used for the paper's ImageNet
runs. It differs from other versions, and its oddities are kept because they are part of the recipe:
each layer picks one of 16 operations and always applies it; there is no identity; magnitudes are
divided by 10 and not clipped; a larger magnitude posterizes less; Solarize's threshold wraps around
at 256; Contrast's grey level is the number of pixels / 256; TranslateX moves by a number of pixels
that does not depend on the image size.
"""

import numbers

import cv2
import numpy as np

OPERATIONS = (
    "AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "Color", "Contrast",
    "Brightness", "Sharpness", "ShearX", "ShearY", "TranslateX", "TranslateY", "Cutout",
    "SolarizeAdd",
)  # fmt: skip
FILL = 128  # grey level of uncovered pixels, and of the cut-out square
_VALUES = np.arange(256)
# The reference truncates where OpenCV rounds. A shift by just under half a level truncates without
# changing whole numbers.
_TRUNCATE = -0.499
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13  # Pillow's SMOOTH
# TensorFlow's weights of red, green and blue; it multiplies by 255.5 to get back from [0, 1].
_GREY = np.array([[0.2989 * 255.5 / 255, 0.5870 * 255.5 / 255, 0.1140 * 255.5 / 255, _TRUNCATE]])


def randaugment(
    image: np.ndarray, rng: np.random.Generator, layers: int, magnitude: float
) -> np.ndarray:
    """Applies `layers` operations, each drawn uniformly, with a random sign and cutout centre.

    Args:
        image: uint8 [h, w, c] with 1 or 3 channels.
        rng: source of randomness.
        layers: number of operations in sequence; 2 in the paper.
        magnitude: strength of every operation; 10 to 20 in the paper.
    """
    h, w, _ = image.shape
    for _ in range(layers):
        name = OPERATIONS[rng.integers(len(OPERATIONS))]
        negate, center = bool(rng.integers(2)), (int(rng.integers(h)), int(rng.integers(w)))
        image = apply_operation(name, image, magnitude, negate, center)
    return image


def apply_operation(
    name: str,
    image: np.ndarray,
    magnitude: float,
    negate: bool = False,
    cutout_center: tuple[int, int] | None = None,
) -> np.ndarray:
    """Applies one operation to a copy of an image, uint8 [h, w, c].

    Args:
        name: one of OPERATIONS.
        image: with 1 or 3 channels.
        magnitude: strength, 0 to about 20.
        negate: whether to rotate, shear or translate the other way; other operations ignore it.
        cutout_center: (row, column) of the centre of Cutout's square; the image's by default.

    Raises:
        ValueError: the operation is unknown, or the magnitude is negative.
    """
    if not isinstance(magnitude, numbers.Real) or not magnitude >= 0:
        raise ValueError(f"RandAugment's magnitude is a number from 0 on, not {magnitude!r}")
    level = magnitude / 10
    signed = -level if negate else level
    factor = 1.8 * level + 0.1  # for Color, Contrast, Brightness and Sharpness; 1 is the identity
    h, w, c = image.shape
    match name:
        case "AutoContrast":
            limits = zip(image.min(0).min(0), image.max(0).max(0), strict=True)
            return _look_up(image, [_stretched(low, high) for low, high in limits])
        case "Equalize":
            return _look_up(image, [_equalized(image, channel) for channel in range(c)])
        case "Invert":
            return 255 - image
        case "Rotate":
            return _rotate(image, signed * np.deg2rad(30))
        case "Posterize":
            shift = min(max(8 - int(level * 4), 0), 7)
            return image >> shift << shift
        case "Solarize":
            threshold = int(level * 256) % 256
            return _look_up(image, np.where(threshold > _VALUES, _VALUES, 255 - _VALUES))
        case "SolarizeAdd":
            added = _VALUES + int(level * 110)
            return _look_up(image, np.where(_VALUES < 128, added, _VALUES))
        case "Color":
            return _blend(_grey(image), image, factor) if c == 3 else image
        case "Contrast":
            grey = int(min(h * w / 256, 255))
            return _look_up(image, grey + factor * (_VALUES - grey))
        case "Brightness":
            return _look_up(image, factor * _VALUES)
        case "Sharpness":
            smooth = cv2.filter2D(image, -1, _SMOOTH, delta=_TRUNCATE).reshape(h, w, c)
            sharp = _blend(smooth, image, factor)
            for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
                sharp[edge] = image[edge]
            return sharp
        case "ShearX":
            return _warp(image, [[1, 0.3 * signed, 0], [0, 1, 0]])
        case "ShearY":
            return _warp(image, [[1, 0, 0], [0.3 * signed, 1, 0]])
        case "TranslateX":
            return _warp(image, [[1, 0, 100 * signed], [0, 1, 0]])
        case "TranslateY":
            return _warp(image, [[1, 0, 0], [0, 1, 100 * signed]])
        case "Cutout":
            half, (row, column) = int(level * 40), cutout_center or (h // 2, w // 2)
            image = image.copy()
            image[max(row - half, 0) : row + half, max(column - half, 0) : column + half] = FILL
            return image
    raise ValueError(f"unknown operation {name!r}; use one of {', '.join(OPERATIONS)}")


def _look_up(image: np.ndarray, table: np.ndarray | list[np.ndarray]) -> np.ndarray:
    """Maps values through a table [256], or one table per channel, clipped to 0..255."""
    table = np.atleast_2d(np.asarray(table, np.float32)).T
    table = np.ascontiguousarray(np.clip(table, 0, 255).astype(np.uint8)[None])
    return cv2.LUT(image, table).reshape(image.shape)


def _stretched(low: np.uint8, high: np.uint8) -> np.ndarray:
    """Returns the table [256] that maps the darkest value to 0 and the brightest to 255."""
    if low == high:
        return _VALUES
    scale = np.float32(255) / np.float32(high - low)
    return _VALUES.astype(np.float32) * scale - np.float32(low) * scale


def _equalized(image: np.ndarray, channel: int) -> np.ndarray:
    """Returns the table [256] that equalizes a channel's histogram, by Pillow's rule."""
    counts = cv2.calcHist([image], [channel], None, [256], [0, 256]).ravel().astype(np.int64)
    step = (counts.sum() - counts[np.flatnonzero(counts)[-1]]) // 255
    if step == 0:
        return _VALUES
    reached = (counts.cumsum() + step // 2) // step
    return np.concatenate([[0], reached[:-1]])


def _grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(cv2.transform(image, _GREY), cv2.COLOR_GRAY2RGB)


def _blend(start: np.ndarray, end: np.ndarray, factor: float) -> np.ndarray:
    """Interpolates between two images; extrapolates if `factor` is over 1."""
    return cv2.addWeighted(start, 1 - factor, end, factor, _TRUNCATE).reshape(end.shape)


def _rotate(image: np.ndarray, angle: float) -> np.ndarray:
    """Rotates by an angle in radians about the centre."""
    h, w, _ = image.shape
    cos, sin = np.cos(angle), np.sin(angle)
    right = ((w - 1) - (cos * (w - 1) - sin * (h - 1))) / 2
    down = ((h - 1) - (sin * (w - 1) + cos * (h - 1))) / 2
    return _warp(image, [[cos, -sin, right], [sin, cos, down]])


def _warp(image: np.ndarray, matrix: list[list[float]]) -> np.ndarray:
    """Fills pixel (x, y) from the nearest one to matrix @ (x, y, 1); grey outside the image."""
    h, w, _ = image.shape
    # Half-way between two pixels the reference rounds up, OpenCV to even.
    shifted = np.asarray(matrix, np.float64) + [[0, 0, 1e-3]] * 2
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, shifted, (w, h), flags=flags, borderValue=(FILL,) * 4).reshape(
        image.shape
    )
