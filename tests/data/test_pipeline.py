"""The batches: what they depend on, and that nothing is lost or seen twice."""

import itertools

import numpy as np
import pytest

from mlp_mixer.data import pipeline, sources
from mlp_mixer.data.augment import Augment
from mlp_mixer.data.sources import open_source

CHANGES = dict(shift=1.0, flip=True)


def digits():
    return open_source("digits", "train", 1)


def batches(count=4, in_memory=True, augment=None, **options):
    options = {"batch_size": 24, "seed": 3} | options
    stream = pipeline.train_batches(
        digits(), augment or Augment((8, 8), **CHANGES), in_memory=in_memory, **options
    )
    return list(itertools.islice(stream, count))


def assert_equal(a, b):
    for x, y in zip(a, b, strict=True):
        assert x.keys() == y.keys()
        for key in x:
            np.testing.assert_array_equal(x[key], y[key])


@pytest.mark.parametrize("in_memory", [True, False])
def test_batch_k_depends_on_seed_and_k_only(in_memory):
    whole = batches(6, in_memory)
    assert_equal(batches(6, in_memory, threads=3), whole)
    assert_equal(batches(2, in_memory, start=4), whole[4:])
    other = batches(1, in_memory, seed=4)[0]
    assert not np.array_equal(other["label"], whole[0]["label"])
    assert whole[0]["image"].dtype == np.uint8 and whole[0]["label"].dtype == np.int32


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("count", [2, 4])
def test_the_shares_of_all_processes_are_the_batch_of_one(in_memory, count):
    whole = batches(3, in_memory)
    shares = [batches(3, in_memory, process=(p, count)) for p in range(count)]
    joined = [
        {key: np.concatenate([share[k][key] for share in shares]) for key in ("image", "label")}
        for k in range(3)
    ]
    assert_equal(joined, whole)


@pytest.mark.parametrize("in_memory", [True, False])
def test_an_epoch_shows_each_example_once_and_the_next_in_another_order(in_memory):
    source = digits()
    plain = Augment((8, 8))
    stream = batches(2 * 479, in_memory, augment=plain, batch_size=3, seed=0)  # 1437 = 3 * 479
    pixels = np.concatenate([batch["image"] for batch in stream]).reshape(2, 1437, -1)
    everything = sorted(source[i][0].tobytes() for i in range(1437))
    for epoch in pixels:
        assert sorted(image.tobytes() for image in epoch) == everything
    assert not np.array_equal(pixels[0], pixels[1])


def test_augmentation_differs_between_epochs():
    first, later = (
        {image.tobytes() for batch in batches(60, start=start) for image in batch["image"]}
        for start in (0, 60)
    )
    assert len(first - later) > 1000


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("batch_size", [4, 16, 400])
def test_evaluation_sees_every_example_exactly_once(count, batch_size):
    source = open_source("digits", "test[:37]", 1)
    shares = [
        list(pipeline.eval_batches(source, (8, 8), batch_size=batch_size, process=(p, count)))
        for p in range(count)
    ]
    assert len({len(share) for share in shares}) == 1  # as many batches on every process
    assert {b["image"].shape for s in shares for b in s} == {(batch_size // count, 8, 8, 1)}
    kept = [
        (image.tobytes(), int(label))
        for step in zip(*shares, strict=True)
        for batch in step
        for image, label, mask in zip(batch["image"], batch["label"], batch["mask"], strict=True)
        if mask
    ]
    expected = [(image.tobytes(), label) for image, label in (source[i] for i in range(37))]
    assert kept == expected


def test_a_batch_that_processes_cannot_share_is_refused():
    with pytest.raises(ValueError, match=r"24.*5 processes"):
        batches(process=(0, 5))
    with pytest.raises(ValueError, match="inception_crop"):
        batches(augment=Augment((8, 8), inception_crop=0.1))


def test_images_of_other_sizes_are_resized_when_kept_in_memory(monkeypatch):
    pixels, labels = pipeline.load_all(digits(), (4, 6))
    assert pixels.shape == (1437, 4, 6, 1) and labels.shape == (1437,)
    monkeypatch.setattr(pipeline.os, "sysconf", lambda name: 4)  # a machine of 16 bytes
    with pytest.raises(ValueError, match=r"set in_memory to False"):
        pipeline.load_all(digits(), (4, 6))


def test_an_error_while_loading_reaches_the_user_as_it_is(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split / "cat").mkdir(parents=True)
        (tmp_path / split / "cat" / "broken.png").write_bytes(b"broken")
    source = sources.open_source(f"folder:{tmp_path}", "train")
    stream = pipeline.train_batches(source, Augment((8, 8)), batch_size=2, seed=0)
    with pytest.raises(ValueError, match=r"broken\.png in folder .*cat"):
        next(stream)
    with pytest.raises(ValueError, match=r"broken\.png in folder .*cat"):
        next(pipeline.eval_batches(source, (8, 8), batch_size=2))
