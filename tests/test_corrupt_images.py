"""benchmarks/corrupt_images.py: corrupted copies, as the robustness suite reads them."""

import sys
import types

import numpy as np
import pytest

from benchmarks import corrupt_images
from mlp_mixer.data import corruptions
from mlp_mixer.data.sources import Subset, open_source


@pytest.fixture
def library(monkeypatch):
    """A stand-in for imagecorruptions, which is not installed everywhere."""

    def corrupt(image, severity, corruption_name, seed=None):
        rng = np.random if seed is None else np.random.default_rng(seed)
        return (image + rng.normal(0, severity, image.shape)).astype(np.uint8)

    monkeypatch.setitem(sys.modules, "imagecorruptions", types.SimpleNamespace(corrupt=corrupt))


def test_corrupted_copies_are_the_same_each_time(tmp_path, library):
    source = Subset(open_source("digits", "test"), np.arange(7))
    everything = [("fog", 1), ("fog", 5), ("glass_blur", 2)]

    def make(out):
        for corruption, severity in everything:
            corrupt_images.make(source, out, corruption, severity, range(7))
        return {path.relative_to(out): path.read_bytes() for path in out.rglob("*.*")}

    made = make(tmp_path / "a")
    assert len(set(made.values())) == len(made) == 21  # all others, and none unfinished
    np.random.seed(9)
    some = next(iter(made))
    (tmp_path / "b" / some).parent.mkdir(parents=True)
    (tmp_path / "b" / some).write_bytes(b"as it was")
    assert make(tmp_path / "b") == made | {some: b"as it was"}
    found = corruptions.find(f"folder:{tmp_path}/a")
    assert {(one.corruption, one.severity) for one in found} == set(everything)
    labels = sorted(source.class_names[label] for label in source.labels())
    assert sorted(path.parent.name for path in made if "fog/5" in str(path)) == labels


def test_the_library_knows_the_corruptions_that_count():
    pytest.importorskip("imagecorruptions", reason="installed by hand: see corrupt_images.py")
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for corruption in corruptions.COUNTED:
        made = corrupt_images.corrupt(image, corruption, 3, 1)
        assert made.dtype == np.uint8 and made.shape == image.shape and (made != image).any()
        assert (made == corrupt_images.corrupt(image, corruption, 3, 1)).all(), corruption
