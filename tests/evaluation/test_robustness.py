"""Robustness sets: two protocols from one look at each image, and no crop of corrupted images."""

from collections import Counter

import jax
import numpy as np
import pytest
from PIL import Image

from mlp_mixer.data import corruptions
from mlp_mixer.data.folders import FolderClasses
from mlp_mixer.data.robustness_sets import SETS
from mlp_mixer.evaluation.robustness import RobustnessEvaluation
from mlp_mixer.models.known_classes import imagenet

IDS = np.array(imagenet().ids)
CLASSES = FolderClasses(tuple(IDS), tuple(IDS), "ImageNet")
IN_A, ALSO_IN_A, NOT_IN_A = 15, 987, 0  # of which none is in R


class Reader:
    """A model of ImageNet's classes in any order, whose logits the top left pixel tells.

    Its red and green say which class has the largest logit, the rest of the pixel and of the image
    nothing; the largest logit among all others is that of class 987.
    """

    num_classes, image_size, image_channels = 1000, (8, 8), 3

    def __init__(self, order=None):
        self.order = np.arange(1000) if order is None else order  # places of the classes

    def apply(self, variables, pixels):
        high, low, _ = jax.numpy.round((pixels[:, 0, 0] + 1) * 127.5).astype(int).T
        logits = 2.0 * jax.nn.one_hot(256 * high + low, 1000)
        return logits.at[:, ALSO_IN_A].add(1.0)[:, np.argsort(self.order)]


def save(path, prediction, size=8):
    pixels = np.full((size, size, 3), 255, np.uint8)
    pixels[0, 0] = [*divmod(prediction, 256), 0]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def evaluation(order=None, **how):
    names = np.empty(1000, object)
    names[np.arange(1000) if order is None else order] = IDS
    at = np.arange(1000) if order is None else order
    return RobustnessEvaluation(
        Reader(order), {}, tuple(names), CLASSES, imagenet_at=at, batch_size=4, **how
    )


@pytest.mark.parametrize("order", [None, np.random.default_rng(0).permutation(1000)])
def test_one_look_counts_by_200_and_by_1000_classes(tmp_path, order):
    for i, (label, prediction) in enumerate([
        (IN_A, IN_A),  # right by both
        (ALSO_IN_A, NOT_IN_A),  # right among A's 200 only, where 987 comes second
        (IN_A, NOT_IN_A),  # wrong by both
    ]):  # fmt: skip
        for where in ("a", "clean/val"):
            save(tmp_path / where / IDS[label] / f"{i}.png", prediction)
    save(tmp_path / "clean/val" / IDS[NOT_IN_A] / "x.png", NOT_IN_A)  # is no class of A
    ours = evaluation(order)
    opened = ours.open_sets({"A": f"folder:{tmp_path}/a", "ImageNet": f"folder:{tmp_path}/clean"})
    assert ours.measure("A", opened["A"]) == pytest.approx({"a": 2 / 3, "a_of_1000": 1 / 3})
    clean = ours.measure("ImageNet", opened["ImageNet"])
    assert clean == pytest.approx({"imagenet": 2 / 4, "a_clean": 2 / 3})
    assert ours.remarks == [
        "ImageNet-A: 3 of its 7,500 images", "ImageNet: 4 of its 50,000 images"
    ]  # fmt: skip


class Counting:
    """Another source, and how often each of its images is read."""

    def __init__(self, source):
        self._source, self.name, self.class_names = source, source.name, source.class_names
        self.reads = Counter()

    def __len__(self):
        return len(self._source)

    def __getitem__(self, index):
        self.reads[int(index)] += 1
        return self._source[index]


def test_each_image_is_read_and_the_model_is_traced_once(tmp_path, monkeypatch):
    for i in range(4):
        save(tmp_path / IDS[IN_A] / f"{i}.png", IN_A)
    ours, traces, apply = evaluation(), [], Reader.apply
    monkeypatch.setattr(Reader, "apply", lambda *args: traces.append(1) or apply(*args))
    for name in ("A", "Sketch"):
        source = Counting(ours.open(f"folder:{tmp_path}", "test"))
        assert ours.measure(name, source)
        assert source.reads == {0: 2, 1: 1, 2: 1, 3: 1}  # the first also for its shape
    assert len(traces) == 1


def test_images_of_another_set_are_no_accuracy_on_this_one(tmp_path):
    save(tmp_path / IDS[NOT_IN_A] / "x.png", NOT_IN_A)
    ours = evaluation()
    opened = ours.open_sets({"A": f"folder:{tmp_path}"})
    assert ours.measure("A", opened["A"]) == {}
    assert "images of classes that ImageNet-A has not" in ours.missing[0]


def test_corrupted_images_are_not_cropped_again(tmp_path):
    for severity, size in ((1, 8), (2, 80)):  # as the model's input, and larger
        pixels = np.zeros((size, size, 3), np.uint8)
        pixels[: size // 8, : size // 8] = [0, IN_A, 0]  # a frame that a crop would cut off
        path = tmp_path / "c/fog" / str(severity) / IDS[IN_A] / "x.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(pixels).save(path)
    ours = evaluation(crop_fraction=0.5)
    found = ours.measure_corrupted(ours.find_corrupted(f"folder:{tmp_path}/c"))
    assert found.accuracy == {"fog": {1: 1.0, 2: 1.0}}
    cropped = ours.open(f"folder:{tmp_path}/c/fog/1", "")
    assert ours.measure("Sketch", cropped) == {"sketch": 0.0}
    assert "ImageNet-C: as few as 1 of 50,000 images of a corruption and severity" in ours.remarks


def test_a_broken_image_costs_its_set_only(tmp_path):
    for severity in (1, 2):
        save(tmp_path / "fog" / str(severity) / IDS[IN_A] / "x.png", IN_A)
    (tmp_path / "fog" / "1" / IDS[IN_A] / "x.png").write_bytes(b"no image")
    ours = evaluation()
    found = ours.measure_corrupted(corruptions.find(f"folder:{tmp_path}"))
    assert found.accuracy == {"fog": {2: 1.0}} and "fog 1: broken image: x.png" in ours.missing[0]
    (tmp_path / "fog" / "1" / IDS[IN_A] / "x.png").rename(tmp_path / "fog/2" / IDS[IN_A] / "x.png")
    opened = ours.open_sets({"Sketch": f"folder:{tmp_path}/fog/2"})
    assert ours.measure("Sketch", opened["Sketch"]) == {}
    assert ours.missing[1].startswith("ImageNet-Sketch: broken image: x.png")


def test_what_is_not_there_is_told_with_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    ours = evaluation()
    assert ours.open_sets({"A": "", "v2-topimages": ""}) == {} and ours.find_corrupted("") == []
    text = "\n".join(sorted(ours.missing))
    for words in (
        "mlp-mixer prepare imagenet_a; or unpack", "imagenet-a.tar", "--sets A=folder:PATH",
        "mlp-mixer prepare imagenet_v2/topimages", "imagenetv2-top-images.tar.gz",
        "mlp-mixer prepare imagenet2012_corrupted/fog_3", "PATH/CORRUPTION/SEVERITY/WNID/*.JPEG",
    ):  # fmt: skip
        assert words in text
    assert text.count("\n") == 2  # a line each
    for given in ({"A": "folder:nowhere"}, {"ImageNet": "folder:nowhere"}):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            ours.open_sets(given)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ours.find_corrupted("folder:nowhere")


def test_what_is_missing_is_told_in_the_order_of_the_table(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    ours = evaluation()
    assert ours.open_sets(dict.fromkeys(reversed(SETS), "")) == {}
    assert [text.partition(":")[0] for text in ours.missing] == [one.title for one in SETS.values()]
