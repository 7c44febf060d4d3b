"""ImageNet-A, -R, -Sketch and -v2: their classes, and labels by the names of folders."""

import hashlib

import pytest

from mlp_mixer.data import corruptions
from mlp_mixer.data.folders import FolderClasses
from mlp_mixer.data.robustness_sets import CLASSES_OF_A, CLASSES_OF_R, SETS, open_classes
from mlp_mixer.models.known_classes import imagenet

from .conftest import png

IDS = imagenet().ids
CLASSES = FolderClasses(IDS, IDS, "ImageNet")


def make(root, *files):
    for i, name in enumerate(files):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(i))
    return f"folder:{root}"


@pytest.mark.parametrize(
    ("classes", "digest"), [(CLASSES_OF_A, "973e8c3e"), (CLASSES_OF_R, "a1d9a9ac")]
)
def test_the_200_classes_are_the_published_ones(classes, digest):
    """The digests are of big_vision's and timm's lists."""
    text = ",".join(map(str, classes))
    assert hashlib.sha256(text.encode()).hexdigest().startswith(digest)
    assert len(set(classes)) == 200


def test_folders_of_some_ids_are_labelled_by_id_not_position(tmp_path, caplog):
    spec = make(tmp_path, f"{IDS[987]}/a.jpg", f"{IDS[6]}/b.jpg", "README.txt")
    source = open_classes(spec, "test", 3, CLASSES)
    assert source.class_names == IDS and source.labels().tolist() == [6, 987]
    assert [int(source[i][0][0, 0, 0]) for i in (0, 1)] == [1, 0]
    assert "no images of" not in caplog.text  # of 998 classes


@pytest.mark.parametrize("place", ["", "test/", "val/"])
def test_class_folders_may_lie_in_a_split_or_in_the_folder(tmp_path, place):
    spec = make(tmp_path, f"{place}{IDS[13]}/a.jpg")
    assert open_classes(spec, "test", 3, CLASSES).labels().tolist() == [13]


def test_the_numbered_folders_of_v2_count_in_numerical_order(tmp_path):
    for i in range(1000):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / f"{i}.jpeg").touch()
    source = open_classes(f"folder:{tmp_path}", "test", 3, CLASSES)
    assert [int(source.path(i).stem) for i in range(1000)] == source.labels().tolist()
    (tmp_path / "999" / "999.jpeg").unlink()
    (tmp_path / "999").rmdir()
    with pytest.raises(ValueError, match="only where the folders are all of 0 to 999"):
        open_classes(f"folder:{tmp_path}", "test", 3, CLASSES)


def test_folders_that_are_no_classes_of_imagenet_are_refused(tmp_path):
    spec = make(tmp_path, f"{IDS[6]}/a.jpg", "n99999999/a.jpg")
    with pytest.raises(ValueError, match="class folders that ImageNet has not: n99999999"):
        open_classes(spec, "test", 3, CLASSES)


def test_imagenet_and_real_need_no_train_folder(tmp_path):
    spec = make(tmp_path, f"val/{IDS[7]}/ILSVRC2012_val_00000001.JPEG")
    (tmp_path / "real.json").write_text("[[7, 8]]")
    assert open_classes(spec, "validation", 3, CLASSES).labels().tolist() == [7]
    (row,) = open_classes(spec, "real", 3, CLASSES).labels()
    assert row.nonzero()[0].tolist() == [7, 8]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SETS, "C"])
def test_tfds_numbers_its_classes_as_heads_do(name, write_data_set):
    """The features are those of TFDS's own data sets."""
    spec = SETS[name].source if name in SETS else f"{corruptions.IMAGENET_C}/fog_3"
    split = SETS[name].split if name in SETS else "validation"
    size = (224, 224) if name == "C" else (4, 5)
    image = png(9, size)
    label = {"original_label": 3, "real_label": [3, 5]} if name == "ReaL" else {"label": 3}
    write_data_set(
        spec.removeprefix("tfds:"),
        {split: [dict(image=image, file_name="a.png", **label)]}, shards=1,
    )  # fmt: skip
    source = open_classes(spec, split, 3, CLASSES)
    assert source.class_names == IDS
    assert source.labels()[0].nonzero()[0].tolist() == [3, 5] if name == "ReaL" else [3]
    if name == "C":
        assert corruptions.find(corruptions.IMAGENET_C) == [("fog", 3, spec, "validation")]


# --- corrupted images ---


def test_corruptions_are_found_in_the_authors_order(tmp_path):
    spec = make(
        tmp_path, "fog/2/a/x.png", "fog/1/a/x.png", "gaussian_noise/5/a/x.png",
        "saturate/1/a/x.png", "blizzard/1/a/x.png", "fog/6/a/x.png", "notes/README",
    )  # fmt: skip
    found = [(one.corruption, one.severity) for one in corruptions.find(spec)]
    assert found == [
        ("gaussian_noise", 5), ("fog", 1), ("fog", 2), ("saturate", 1), ("blizzard", 1)
    ]  # fmt: skip
    one = corruptions.find(spec)[2]
    classes = corruptions.folder_classes(spec, None, "")
    assert len(open_classes(one.source, one.split, 3, classes)) == 1


def test_a_folder_of_corruptions_tells_its_classes(tmp_path):
    spec = make(tmp_path, "fog/1/cat/x.png", "fog/1/dog/x.png", "fog/2/dog/x.png")
    assert corruptions.folder_classes(spec, None, "").names == ("cat", "dog")
    assert corruptions.folder_classes(spec, ["dog", "cat", "cow"], "x").names[2] == "cow"
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    assert corruptions.folder_classes(spec, ["dog", "cat", "cow"], "x").names == ("dog", "cat")


def test_folders_without_corruptions_are_refused(tmp_path):
    spec = make(tmp_path, "test/cat/x.png")
    with pytest.raises(ValueError, match=r"PATH/CORRUPTION/SEVERITY/CLASS/image.jpg.* has: test"):
        corruptions.find(spec)
    with pytest.raises(FileNotFoundError, match="no folder nowhere"):
        corruptions.find("folder:nowhere")
    with pytest.raises(ValueError, match="not at 'digits'"):
        corruptions.find("digits")


@pytest.mark.slow
def test_tfds_names_of_corruptions_of_cifar_are_known(write_data_set):
    example = dict(image=png(1, (32, 32)), label=3)
    for config in ("elastic_1", "frosted_glass_blur_2"):
        write_data_set(f"cifar10_corrupted/{config}", {"test": [example]}, shards=1)
    found = corruptions.find("tfds:cifar10_corrupted")
    assert [one[:2] for one in found] == [("glass_blur", 2), ("elastic_transform", 1)]
    names = ("automobile", "airplane", *"bcdefghi")  # TFDS has numbers, of the alphabet
    source = open_classes(found[0].source, "test", 3, FolderClasses(names, names, "the run"))
    assert source.class_names == ("airplane", "automobile", *"bcdefghi")
