"""AutoAugment and timm's RandAugment do what torchvision and timm do; jitter and erasing."""

import json

import numpy as np
import pytest
from PIL import Image

from mlp_mixer.data import augment, autoaugment, timm_randaugment
from mlp_mixer.data.augment import Augment
from mlp_mixer.data.pillow_operations import apply_operation, from_pillow, to_pillow

from ..conftest import GOLDEN

RNG = np.random.default_rng
RESAMPLINGS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@pytest.fixture(scope="module")
def golden():
    """Made by benchmarks/augmentation_golden.py."""
    with np.load(GOLDEN / "augmentations.npz") as file:
        return dict(file)


def assert_close(ours, theirs, name):
    """Equal, but for rounding: torchvision's strengths are float32, Pillow's versions differ."""
    difference = np.abs(ours.astype(int) - theirs)
    assert (difference > 1).mean() < 0.01 and np.median(difference) == 0, name


def test_autoaugment_changes_images_as_torchvision_does(golden):
    image = golden["image"]
    names = [name for name in golden if name.startswith("torchvision/")]
    assert len(names) > 80
    for key in names:
        _, name, strength, sign = key.split("/")
        if name.startswith("Translate"):  # torchvision's sign is the other one
            sign = -int(sign)
        value = autoaugment.value_of(name, int(strength), int(sign), image.shape[:2])
        ours = from_pillow(apply_operation(name, to_pillow(image), value))
        assert_close(ours, golden[key], key)


def test_the_policy_for_cifar10_is_that_of_torchvision(golden):
    theirs = json.loads(str(golden["policy"]))
    ours = [[list(operation) for operation in pair] for pair in autoaugment.POLICIES["cifar10"]]
    assert ours == [[[name, p, k or 0] for name, p, k in pair] for pair in theirs]


def test_timm_randaugment_changes_images_as_timm_does(golden):
    image = golden["image"]
    seen = set()
    for name in timm_randaugment.OPERATIONS:
        for magnitude in (0.0, 4.2, 9.0, 9.9):
            for sign in (1, -1):
                for resampling, resample in RESAMPLINGS.items():
                    key = f"timm/{name}/{magnitude}/{sign}/{resampling}"
                    value = timm_randaugment.value_of(name, magnitude, sign, image.shape[:2])
                    changed = apply_operation(name, to_pillow(image), value, resample, 128)
                    assert_close(from_pillow(changed), golden.get(key, image), key)
                    seen.add(key)
    assert {key for key in golden if key.startswith("timm/")} <= seen


def test_timm_strengths_vary_about_their_mean_and_stay_below_10(monkeypatch):
    seen = []
    monkeypatch.setattr(
        timm_randaugment, "value_of", lambda name, level, *_: seen.append((name, level)) or 0.0
    )
    monkeypatch.setattr(timm_randaugment, "apply_operation", lambda name, image, *_: image)
    rng = RNG(0)
    for _ in range(3000):
        timm_randaugment.randaugment(np.zeros((3, 3, 3), np.uint8), rng, 2, 9.0, 0.5)
    names, levels = zip(*seen, strict=True)
    assert abs(len(levels) - 3000) < 150  # of 6,000, each with probability one half
    assert set(names) == set(timm_randaugment.OPERATIONS)
    assert abs(np.mean(levels) - 9) < 0.05 and abs(np.std(levels) - 0.5) < 0.05
    assert max(levels) == 10


def test_autoaugment_takes_each_pair_as_often_as_it_says(monkeypatch):
    seen = []
    monkeypatch.setattr(
        autoaugment,
        "apply_operation",
        lambda name, image, value: seen.append((name, value)) or image,
    )
    monkeypatch.setitem(
        autoaugment.POLICIES,
        "test",
        ((("A", 1.0, 0), ("B", 0.0, 0)), (("C", 0.3, 0), ("Rotate", 0.9, 9))),
    )
    rng = RNG(0)
    for _ in range(4000):
        autoaugment.autoaugment(np.zeros((3, 3, 3), np.uint8), rng, "test")
    counts = {name: sum(n == name for n, _ in seen) for name in "ABC"}
    assert abs(counts["A"] - 2000) < 130 and counts["B"] == 0 and abs(counts["C"] - 600) < 100
    turns = [value for name, value in seen if name == "Rotate"]
    assert abs(len(turns) - 1800) < 130 and abs(np.mean(turns)) < 2 and set(turns) == {-30, 30}


def test_color_jitter_stays_within_its_strength():
    """A mean of grey images is multiplied by brightness alone; contrast and colour keep it."""
    image = np.full((4, 4, 3), 100, np.uint8)
    levels = [augment.color_jitter(image, RNG(seed), 0.4).mean() for seed in range(300)]
    assert 60 <= min(levels) < 65 and 135 < max(levels) <= 140


def test_color_jitter_changes_contrast_and_saturation_too():
    image = RNG(0).integers(100, 150, (16, 16, 3), dtype=np.uint8)

    def spread(x):
        return x.mean(-1).std() / x.mean(), x.std(-1).mean() / x.mean()

    contrasts, colours = zip(
        *(spread(augment.color_jitter(image, RNG(seed), 0.4)) for seed in range(200)), strict=True
    )
    contrast, colour = spread(image)
    assert min(contrasts) < 0.75 * contrast and max(contrasts) > 1.25 * contrast
    assert min(colours) < 0.7 * colour and max(colours) > 1.4 * colour


def test_erasing_replaces_a_part_of_some_images_by_noise():
    image = np.full((60, 50, 3), 7, np.uint8)
    shares, ratios, values = [], [], []
    for seed in range(800):
        erased = augment.random_erasing(image, RNG(seed), 0.25)
        changed = (erased != image).any(-1)
        if changed.any():
            rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
            tall, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
            assert changed.mean() > 0.97 * tall * wide / changed.size  # one rectangle
            shares.append(tall * wide / changed.size)
            ratios.append(tall / wide)
            values.append(erased[changed])
    assert abs(len(shares) - 200) < 40
    assert 0.015 < min(shares) < 0.04 and 0.29 < max(shares) < 0.35
    assert 0.25 < min(ratios) < 0.5 and 2 < max(ratios) < 4
    noise = np.concatenate(values)
    np.testing.assert_allclose(noise.mean(0), [124, 116, 104], atol=3)
    np.testing.assert_allclose(noise.std(0), [58, 57, 57], atol=4)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "how",
    [
        {"autoaugment": "cifar10"},
        {"randaugment_form": "timm", "randaugment_layers": 2, "randaugment_magnitude": 9.0},
        {"color_jitter": 0.4},
        {"random_erasing": 1.0},
    ],
)
def test_each_keeps_shapes_and_its_input_and_changes_most(how, channels):
    batch = RNG(0).integers(0, 256, (30, 8, 9, channels), dtype=np.uint8)
    before = batch.copy()
    changed = Augment((8, 9), **how).batch(batch, RNG(1))
    assert changed.shape == batch.shape and changed.dtype == np.uint8
    np.testing.assert_array_equal(batch, before)
    assert (changed != batch).any((1, 2, 3)).mean() > 0.5
    np.testing.assert_array_equal(Augment((8, 9), **how).batch(batch, RNG(1)), changed)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"autoaugment": "svhn"}, "cifar10, not 'svhn'"),
        ({"autoaugment": "cifar10", "randaugment_layers": 2}, "autoaugment and randaugment_layers"),
        ({"randaugment_form": "torchvision"}, "big_vision or timm, not 'torchvision'"),
        ({"randaugment_std": 0.5}, "randaugment_form=timm, not big_vision"),
        ({"color_jitter": 1.5}, "from 0 .* not 1.5"),
        ({"random_erasing": -0.1}, "from 0 .* not -0.1"),
    ],
)
def test_impossible_augmentations_are_refused(how, message):
    with pytest.raises(ValueError, match=message):
        Augment((8, 8), **how)
