"""What the random changes to training images may and may not do."""

import cv2
import numpy as np
import pytest

from mlp_mixer.data import augment
from mlp_mixer.data.augment import Augment

RNG = np.random.default_rng


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return RNG(seed).integers(0, 256, shape, dtype=np.uint8)


def test_without_any_change_images_stay_as_they_are():
    batch = noise(5, 8, 8, 3)
    np.testing.assert_array_equal(Augment((8, 8)).batch(batch, RNG(1)), batch)


def test_pad_crop_cuts_each_image_out_of_its_reflection():
    batch = noise(50, 6, 7, 2)
    padded = np.pad(batch, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    places = set()
    for image, whole in zip(augment.pad_crop(batch, RNG(1), 2), padded, strict=True):
        found = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if np.array_equal(image, whole[top : top + 6, left : left + 7])
        ]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) > 15  # of 25


def test_flip_mirrors_about_half_of_the_images():
    batch = noise(400, 4, 4, 1)
    flipped = Augment((4, 4), flip=True).batch(batch, RNG(1))
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(flipped, batch, strict=True)]
    same = [np.array_equal(a, b) for a, b in zip(flipped, batch, strict=True)]
    assert sum(mirrored) + sum(same) == 400 and 160 < sum(mirrored) < 240


def test_rotate_zoom_and_shift_stay_within_their_bounds():
    batch = np.zeros((200, 21, 21, 1), np.uint8)
    batch[:, 10, 10] = 255  # one bright pixel in the middle
    moved = Augment((21, 21), shift=3.0).batch(batch, RNG(1))[..., 0].astype(float)
    y, x = np.mgrid[:21, :21]
    mass = moved.sum((1, 2))
    down, right = (moved * y).sum((1, 2)) / mass - 10, (moved * x).sum((1, 2)) / mass - 10
    assert 2 < np.abs(down).max() <= 3.1 and 2 < np.abs(right).max() <= 3.1
    turned = Augment((21, 21), rotate=20.0, zoom=0.3).batch(batch, RNG(1))
    assert (turned.argmax(1) == 10)[:, 10].all()  # about the middle, which stays


class Drawn:
    """A generator whose next draws are known: of angle, zoom, and the shift down and right."""

    def __init__(self, *draws: float):
        self._draws = np.array(draws)

    def uniform(self, low: float, high: float, size: int) -> np.ndarray:
        assert (low, high, size) == (-1, 1, 4)
        return self._draws


def test_an_image_is_turned_enlarged_and_shifted_as_far_as_drawn():
    image = noise(9, 9, 3)

    def moved(draws, **fields):
        return Augment((9, 9), **fields).batch(image[None], Drawn(*draws))[0]

    for sign in (1, -1):
        turned = moved((sign, 0, 0, 0), rotate=90.0, zoom=0.5, shift=2.0)
        np.testing.assert_array_equal(turned, np.rot90(image, sign))
    # Twice as large about the middle, row 4: every other row is one of the rows 2 to 6.
    larger = moved((0, 1, 0, 0), rotate=90.0, zoom=np.log(2))
    np.testing.assert_array_equal(larger[::2, ::2], image[2:7, 2:7])
    smaller = moved((0, -1, 0, 0), zoom=np.log(2))
    np.testing.assert_array_equal(smaller[2:7, 2:7], image[::2, ::2])
    shifted = moved((0, 0, 1, -1), shift=2.0)
    np.testing.assert_array_equal(shifted[2:, :-2], image[:-2, 2:])


@pytest.mark.parametrize(("h", "w"), [(375, 500), (64, 64), (500, 100)])
def test_inception_crops_keep_area_and_aspect_within_bounds(h, w):
    image = np.zeros((h, w, 1), np.uint8)
    shapes = np.array([augment.inception_crop(image, RNG(i), 0.05).shape for i in range(2000)])
    area, aspect = shapes[:, 0] * shapes[:, 1] / (h * w), shapes[:, 1] / shapes[:, 0]
    assert 0.04 < area.min() < 0.1 and area.max() <= 1
    assert 0.7 < aspect.min() < 0.8 and 1.25 < aspect.max() < 1.4


# Quantiles of 40,000 crops of TensorFlow 2.21's tf.image.sample_distorted_bounding_box, with
# area_range (0.05, 1), aspect_ratio_range (0.75, 1.33) and no boxes, as the reference calls it.
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
REFERENCE_CROPS = {
    (375, 500): {
        "area": (0.0648, 0.1487, 0.3007, 0.5057, 0.7598),
        "aspect": (0.7775, 0.8964, 1.0405, 1.1834, 1.3000),
        "height": (0.2933, 0.4427, 0.6293, 0.8160, 0.9653),
    },
    (600, 300): {
        "area": (0.0605, 0.1164, 0.2104, 0.3347, 0.4860),
        "aspect": (0.7787, 0.8950, 1.0435, 1.1868, 1.3014),
        "height": (0.1683, 0.2350, 0.3150, 0.4000, 0.5283),
    },
}


@pytest.mark.parametrize(("h", "w"), REFERENCE_CROPS)
def test_inception_crops_are_distributed_as_the_references(h, w):
    image = np.zeros((h, w, 1), np.uint8)
    crops = np.array([augment.inception_crop(image, RNG(i), 0.05).shape for i in range(8000)])
    height, width = crops[:, 0], crops[:, 1]
    found = {"area": height * width / (h * w), "aspect": width / height, "height": height / h}
    for name, expected in REFERENCE_CROPS[h, w].items():
        np.testing.assert_allclose(np.quantile(found[name], LEVELS), expected, atol=0.012)


def test_a_random_crop_comes_from_the_whole_image_resized():
    image = noise(30, 50, 3)
    resized = cv2.resize(image, (16, 12), interpolation=cv2.INTER_LINEAR)
    places = set()
    for seed in range(200):
        one = Augment((9, 12), random_crop=0.75).one(image, RNG(seed))
        found = [
            (top, left)
            for top in range(4)
            for left in range(5)
            if np.array_equal(one, resized[top : top + 9, left : left + 12])
        ]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) == 20


@pytest.mark.parametrize("crop", ["inception_crop", "random_crop"])
def test_training_crops_are_resized_by_blending_four_pixels(crop):
    """As the reference's, without antialiasing. A share of 1 leaves nothing to chance."""
    image = noise(32, 32, 3)
    # A pixel of four times the size stands in the middle of 4 x 4 old ones, between four of them.
    four = [image[i::4, j::4].astype(int) for i in (1, 2) for j in (1, 2)]
    one = Augment((8, 8), **{crop: 1.0}).one(image, RNG(0))
    assert np.abs(one - sum(four) / 4).max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_randaugment_comes_last_and_for_each_image_on_its_own(channels):
    batch = noise(40, 16, 16, channels)
    strong = Augment((16, 16), randaugment_layers=1, randaugment_magnitude=10)  # Solarize inverts
    changed = strong.batch(batch, RNG(3))
    inverted = (changed == 255 - batch).all((1, 2, 3))
    assert 0 < inverted.sum() < 20  # 2 of 16 operations
    flipped = Augment((16, 16), flip=True).batch(batch, RNG(3))
    both = Augment((16, 16), flip=True, randaugment_layers=1, randaugment_magnitude=10)
    inverted = (both.batch(batch, RNG(3)) == 255 - flipped).all((1, 2, 3))
    assert 0 < inverted.sum() < 20


@pytest.mark.parametrize(
    "fields",
    [
        dict(inception_crop=5.0),
        dict(random_crop=-0.1),
        dict(inception_crop=0.05, random_crop=0.875),
        dict(randaugment_layers=-2),
        dict(randaugment_magnitude=-1),
        dict(inception_crop=float("nan")),
        dict(rotate=float("nan")),
        dict(zoom=float("inf")),
        dict(shift=-3.0),
        dict(pad_crop=-1),
        dict(pad_crop=1.5),
        dict(randaugment_layers=2.0),
        dict(randaugment_layers=2),  # at magnitude 0 Brightness makes an image nearly black
    ],
)
def test_fields_out_of_range_are_refused_by_name(fields):
    with pytest.raises(ValueError, match=f"{next(iter(fields))}"):
        Augment((8, 8), **fields)


def test_one_image_of_any_size_becomes_one_of_the_final_size():
    for crop in ({}, dict(inception_crop=0.2), dict(random_crop=0.5)):
        one = Augment((10, 12), flip=True, **crop).one(noise(30, 50, 3), RNG(0))
        assert one.shape == (10, 12, 3) and one.dtype == np.uint8
