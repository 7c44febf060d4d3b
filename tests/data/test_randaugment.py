"""RandAugment against what the reference's TensorFlow code made of two images.

golden/randaugment.npz holds the images and, as OPERATION/MAGNITUDE, the reference's results with
positive signs and the cut-out square centred at (40, 40).
"""

import numpy as np
import pytest

from mlp_mixer.data import randaugment
from mlp_mixer.data.randaugment import OPERATIONS, apply_operation

from ..conftest import GOLDEN

# Where the arithmetic is not in whole numbers: largest difference in grey levels.
LEVELS = {"Color": 2, "Sharpness": 2}


@pytest.fixture(scope="module")
def reference():
    with np.load(GOLDEN / "randaugment.npz", allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("magnitude", [10, 15])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_equals_the_references(reference, name, magnitude):
    made = np.stack(
        [apply_operation(name, x, magnitude, cutout_center=(40, 40)) for x in reference["image"]]
    )
    difference = np.abs(made.astype(int) - reference[f"{name}/{magnitude}"])
    if name in ("Rotate", "ShearX", "ShearY"):  # the nearest pixel, where two are as near
        assert (difference > 0).any(-1).mean() < 0.002
    else:
        assert difference.max() <= LEVELS.get(name, 0)


@pytest.mark.parametrize("name", ["Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY"])
def test_a_negative_sign_goes_the_other_way(reference, name):
    image = reference["image"][0]
    axis = 0 if name.endswith("Y") else 1
    there = apply_operation(name, image, 3)
    if name.startswith("Shear"):
        back = apply_operation(name, there, 3, negate=True)
        kept = (there != 128).any(-1) & (back != 128).any(-1)
        assert (back == image).all(-1)[kept].mean() > 0.9
    else:  # mirrored, the other way looks the same
        mirrored = apply_operation(name, np.flip(image, axis), 3, negate=True)
        assert (np.flip(mirrored, axis) == there).all(-1).mean() > 0.99


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("magnitude", [0, 4.5, 20, 30])
def test_every_operation_takes_grey_images_and_any_magnitude(name, magnitude):
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 1), dtype=np.uint8)
    before = image.copy()
    made = apply_operation(name, image, magnitude)
    assert made.shape == image.shape and made.dtype == np.uint8
    np.testing.assert_array_equal(image, before)
    # Three equal channels are a grey image, too.
    colour = apply_operation(name, np.repeat(image, 3, -1), magnitude)
    assert np.abs(colour.astype(int) - made).max() <= (6 if name == "Color" else 0)


def test_operations_signs_and_centres_are_drawn_uniformly(monkeypatch):
    drawn = []
    monkeypatch.setattr(randaugment, "apply_operation", lambda *args: drawn.append(args) or args[1])
    image, rng = np.zeros((10, 20, 3), np.uint8), np.random.default_rng(0)
    for _ in range(2000):
        randaugment.randaugment(image, rng, layers=2, magnitude=15)
    names, _, magnitudes, negated, centers = zip(*drawn, strict=True)
    assert len(drawn) == 4000 and set(magnitudes) == {15}
    counts = [names.count(name) for name in OPERATIONS]
    assert min(counts) > 190 and max(counts) < 310  # 250 each, standard deviation 15
    assert 1850 < sum(negated) < 2150
    assert set(centers) == {(row, column) for row in range(10) for column in range(20)}


def test_an_unknown_operation_or_magnitude_is_refused():
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="'Blur'"):
        apply_operation("Blur", image, 10)
    with pytest.raises(ValueError, match="not -1"):
        apply_operation("Invert", image, -1)
