"""Random changes to training images, on the host and in uint8."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from numbers import Integral

import cv2
import numpy as np

from mlp_mixer.data import autoaugment, images, randaugment, timm_randaugment
from mlp_mixer.data.pillow_operations import apply_operation, from_pillow, to_pillow

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]

RANDAUGMENTS: dict[str, Callable[..., np.ndarray]] = {
    "big_vision": randaugment.randaugment,
    "timm": timm_randaugment.randaugment,
}
# ImageNet's mean and standard deviation of red, green and blue, in levels.
MEAN, DEVIATION = 255 * np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])


@dataclass(frozen=True)
class Augment:
    """Data augmentation, applied in the order of the fields; each step is off by default.

    Attributes:
        size: (height, width) of the result in pixels.
        inception_crop: smallest share of the image's area that a random crop keeps. The crop has an
            aspect ratio between 3/4 and 4/3 and is resized to `size`.
        random_crop: share of each side of the image that a random crop keeps: the image is resized
            to size / random_crop, ignoring its aspect ratio, and `size` is cut out. This is how BiT
            and ViT are fine-tuned (arXiv 1912.11370, section 3.3); 0.875 resizes to 256 and crops
            224. With neither crop, the centre of the image is used.
        rotate: largest angle in degrees, in either direction.
        zoom: the scale is drawn from exp(-zoom) to exp(zoom).
        shift: largest shift in pixels along both axes; uncovered pixels are black.
        pad_crop: pixels of reflection padding on each side, before `size` is cut out again.
        flip: whether to mirror half of the images left to right.
        autoaugment: name of a policy of AutoAugment, such as "cifar10"; "" for none.
        randaugment_layers: number of RandAugment operations in sequence; 2 in the paper.
        randaugment_magnitude: their strength; 10 to 20 in the paper, 9 in recipes for timm.
        randaugment_form: "big_vision", as in the paper, or "timm"; see the modules `randaugment`
            and `timm_randaugment`.
        randaugment_std: standard deviation of timm's strength; 0.5 in most recipes.
        color_jitter: brightness, contrast and saturation are multiplied, in random order, by
            factors from 1 - color_jitter to 1 + color_jitter.
        random_erasing: probability that a part of an image is replaced by noise.

    Raises:
        ValueError: a field is out of range, or two fields exclude each other.
    """

    size: tuple[int, int]
    inception_crop: float = 0.0
    random_crop: float = 0.0
    rotate: float = 0.0
    zoom: float = 0.0
    shift: float = 0.0
    pad_crop: int = 0
    flip: bool = False
    autoaugment: str = ""
    randaugment_layers: int = 0
    randaugment_magnitude: float = 0.0
    randaugment_form: str = "big_vision"
    randaugment_std: float = 0.0
    color_jitter: float = 0.0
    random_erasing: float = 0.0

    def __post_init__(self):
        for name in ("inception_crop", "random_crop"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"augment.{name} is a share of the image from 0 (off) to 1, not "
                    f"{getattr(self, name)}"
                )
        if self.inception_crop and self.random_crop:
            raise ValueError("augment has inception_crop and random_crop; set one of them to 0")
        counts = ("pad_crop", "randaugment_layers")
        amounts = ("rotate", "zoom", "shift", "randaugment_magnitude", "randaugment_std")
        for name in (*amounts, *counts):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"augment.{name} is 0 (off) or more, not {getattr(self, name)}")
        for name in counts:
            if not isinstance(getattr(self, name), Integral):
                raise ValueError(f"augment.{name} is an integer, not {getattr(self, name)}")
        for name in ("color_jitter", "random_erasing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augment.{name} is from 0 (off) to 1, not {getattr(self, name)}")
        if self.autoaugment and self.autoaugment not in autoaugment.POLICIES:
            raise ValueError(
                f"augment.autoaugment is empty or one of {', '.join(autoaugment.POLICIES)}, not "
                f"{self.autoaugment!r}"
            )
        if self.autoaugment and self.randaugment_layers:
            raise ValueError(
                "augment has autoaugment and randaugment_layers, which is meant to replace it; "
                'set autoaugment to "" or randaugment_layers to 0'
            )
        if self.randaugment_form not in RANDAUGMENTS:
            raise ValueError(
                f"augment.randaugment_form is {' or '.join(RANDAUGMENTS)}, not "
                f"{self.randaugment_form!r}"
            )
        is_ours = self.randaugment_form == "big_vision"
        if is_ours and self.randaugment_layers and not self.randaugment_magnitude:
            raise ValueError(
                f"augment.randaugment_layers={self.randaugment_layers} needs a "
                "randaugment_magnitude, such as 10: at 0, operations like Brightness and Posterize "
                "leave hardly anything of an image. randaugment_layers=0 is off"
            )
        if self.randaugment_std and self.randaugment_form != "timm":
            raise ValueError(
                f"augment.randaugment_std={self.randaugment_std} needs randaugment_form=timm, not "
                f"{self.randaugment_form}, in which the strength is fixed"
            )

    @property
    def crops(self) -> bool:
        """Whether the augmentation needs images at their original size."""
        return bool(self.inception_crop or self.random_crop)

    def one(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Augments one image of any size, uint8 [h, w, c]; the result has `size`."""
        # Training crops are bilinear without antialiasing, as in the reference.
        if self.inception_crop:
            image = inception_crop(image, rng, self.inception_crop)
            image = images.resize(image, self.size, "bilinear")
        elif self.random_crop:
            image = random_crop(image, rng, self.size, self.random_crop)
        else:
            image = images.eval_view(image, self.size)
        return self.batch(image[None], rng)[0]

    def batch(self, batch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Applies everything after the crop to images that already have `size`, uint8 [n, h, w, c].

        Works on the whole batch at once where that is faster.
        """
        if self.rotate or self.zoom or self.shift:
            batch = np.stack([self._move(image, rng) for image in batch])
        if self.pad_crop:
            batch = pad_crop(batch, rng, self.pad_crop)
        if self.flip:
            batch = batch.copy()
            for i in np.flatnonzero(rng.random(len(batch)) < 0.5):
                batch[i] = cv2.flip(batch[i], 1).reshape(batch[i].shape)
        if changes := self._changes_of_one():
            batch = np.stack([reduce(lambda x, f: f(x, rng), changes, x) for x in batch])
        return np.ascontiguousarray(batch)

    def _changes_of_one(self) -> list[Change]:
        """Returns what happens to one image after the other."""
        changes: list[Change] = []
        if self.autoaugment:
            changes.append(partial(autoaugment.autoaugment, policy=self.autoaugment))
        if self.randaugment_layers:
            how = {"layers": self.randaugment_layers, "magnitude": self.randaugment_magnitude}
            if self.randaugment_form == "timm":
                how["std"] = self.randaugment_std
            changes.append(partial(RANDAUGMENTS[self.randaugment_form], **how))
        if self.color_jitter:
            changes.append(partial(color_jitter, strength=self.color_jitter))
        if self.random_erasing:
            changes.append(partial(random_erasing, probability=self.random_erasing))
        return changes

    def _move(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        h, w, c = image.shape
        angle, zoom, down, right = rng.uniform(-1, 1, 4)
        matrix = cv2.getRotationMatrix2D(
            ((w - 1) / 2, (h - 1) / 2), angle * self.rotate, np.exp(zoom * self.zoom)
        )
        matrix[:, 2] += (right * self.shift, down * self.shift)
        return cv2.warpAffine(image, matrix, (w, h)).reshape(h, w, c)


def inception_crop(image: np.ndarray, rng: np.random.Generator, min_area: float) -> np.ndarray:
    """Cuts a random part out of an image, uint8 [h, w, c].

    The part has at least the share `min_area` of the image's area, and an aspect ratio of 3/4 to
    4/3. Its height is drawn uniformly from those that area and aspect ratio allow, as in the
    reference (TensorFlow's sample_distorted_bounding_box); small crops are thus more frequent than
    if the area were uniform.
    """
    h, w = image.shape[:2]
    for _ in range(100):
        aspect = rng.uniform(3 / 4, 4 / 3)  # width / height
        shortest = np.sqrt(min_area * h * w / aspect)
        tallest = min(h, w / aspect, np.sqrt(h * w / aspect))
        if shortest > tallest:
            continue  # this aspect does not fit the image with enough area
        crop_h = int(np.clip(round(rng.uniform(shortest, tallest)), 1, h))
        crop_w = int(np.clip(round(crop_h * aspect), 1, w))
        top, left = rng.integers(0, h - crop_h + 1), rng.integers(0, w - crop_w + 1)
        return image[top : top + crop_h, left : left + crop_w]
    return image  # no crop fits a very elongated image; the reference keeps it whole as well


def random_crop(
    image: np.ndarray, rng: np.random.Generator, size: tuple[int, int], share: float
) -> np.ndarray:
    """Resizes an image, uint8 [h, w, c], to size / share and cuts `size` out at a random place."""
    larger = round(size[0] / share), round(size[1] / share)
    image = images.resize(image, larger, "bilinear")
    top, left = (rng.integers(0, have - want + 1) for have, want in zip(larger, size, strict=True))
    return image[top : top + size[0], left : left + size[1]]


def pad_crop(batch: np.ndarray, rng: np.random.Generator, pad: int) -> np.ndarray:
    """Pads images [n, h, w, c] by reflection and cuts [h, w] out of each at a random place."""
    n, h, w, _ = batch.shape
    tops, lefts = rng.integers(0, 2 * pad + 1, (2, n))
    cut = np.empty_like(batch)
    # One by one, OpenCV is nearly as fast as NumPy on a whole batch, and far faster on one image.
    for image, part, top, left in zip(batch, cut, tops, lefts, strict=True):
        padded = cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_REFLECT_101)
        part[:] = padded[top : top + h, left : left + w].reshape(part.shape)
    return cut


def color_jitter(image: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Multiplies brightness, contrast and saturation of an image, uint8 [h, w, c].

    In random order and with Pillow's operations, as in torchvision's ColorJitter without hue. The
    factors are drawn uniformly from 1 - strength to 1 + strength.
    """
    changed = to_pillow(image)
    for name in rng.permutation(("Brightness", "Contrast", "Color")):
        changed = apply_operation(name, changed, rng.uniform(1 - strength, 1 + strength))
    return from_pillow(changed)


def random_erasing(image: np.ndarray, rng: np.random.Generator, probability: float) -> np.ndarray:
    """Replaces a rectangle of an image, uint8 [h, w, c], by noise, with some probability.

    As in timm's mode "pixel" (arXiv 1708.04896): the rectangle has 2 to 33 % of the area and an
    aspect ratio of 0.3 to 3.3; each value is drawn from a normal distribution with the mean and
    deviation of ImageNet's pixels. Here values are cut to 0 and 255, so that images stay uint8.
    """
    if rng.random() >= probability:
        return image
    h, w, c = image.shape
    for _ in range(10):
        area = rng.uniform(0.02, 1 / 3) * h * w
        aspect = np.exp(rng.uniform(np.log(0.3), -np.log(0.3)))  # height / width
        tall, wide = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
        if tall < h and wide < w:
            top, left = rng.integers(0, h - tall + 1), rng.integers(0, w - wide + 1)
            mean, deviation = (MEAN, DEVIATION) if c == 3 else (MEAN.mean(), DEVIATION.mean())
            noise = rng.normal(mean, deviation, (tall, wide, c))
            image = image.copy()
            image[top : top + tall, left : left + wide] = np.clip(np.rint(noise), 0, 255)
            break
    return image
