"""Hugging Face data sets: `hf:NAME_OR_FOLDER`."""

import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mlp_mixer.data import hub_files
from mlp_mixer.data.images import BrokenImage
from mlp_mixer.data.prepare.prepare import prepare
from mlp_mixer.data.sources import open_source
from tests.data.conftest import assert_batches_are_the_same, png
from tests.data.test_tar_source import values

datasets = pytest.importorskip("datasets")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

CLASSES = datasets.ClassLabel(names=["cat", "dog", "eel"])


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """The library's cache in a folder of the test, and no network."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def rows(numbers, label=lambda i: i % 3) -> dict:
    return {
        "image": [{"bytes": png(i), "path": f"{i}.png"} for i in numbers],
        "label": [label(i) for i in numbers],
    }


def make(columns, **features):
    kinds = {"image": datasets.Image(), "label": CLASSES} | features
    kinds = {key: kind for key, kind in kinds.items() if key in columns}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))


@pytest.fixture
def saved(tmp_path):
    """A folder by save_to_disk: train of 20 examples in several files and batches, test of 4."""
    splits = {"train": make(rows(range(20))), "test": make(rows(range(100, 104)))}
    folder = tmp_path / "saved"
    datasets.DatasetDict(splits).save_to_disk(folder, num_shards={"train": 3, "test": 1})
    return folder


@pytest.fixture
def parquet(tmp_path):
    """A folder of Parquet files, as data sets on the hub are."""
    folder = tmp_path / "parquet"
    (folder / "data").mkdir(parents=True)
    files = {"train-00000-of-00002": range(10), "train-00001-of-00002": range(10, 20),
             "validation-00000-of-00001": range(100, 104)}  # fmt: skip
    for name, numbers in files.items():
        make(rows(numbers)).to_parquet(folder / "data" / f"{name}.parquet", batch_size=4)
    return folder


def test_a_folder_gives_each_image_with_its_label(saved, parquet):
    for folder in (saved, parquet):
        train = open_source(f"hf:{folder}", "train")
        assert values(train) == [(i, i % 3) for i in range(20)]
        assert train.class_names == ("cat", "dog", "eel") and train[0][0].shape == (4, 5, 3)
        assert train.labels().tolist() == [i % 3 for i in range(20)]
        assert train.labels().dtype == np.int32
        assert values(open_source(f"hf:{folder}", "test")) == [(i, i % 3) for i in range(100, 104)]
        with pytest.raises(ValueError, match=r"no split 'v2'; it has train, (test|validation)"):
            open_source(f"hf:{folder}", "v2")
    assert open_source(f"hf:{saved}", "train", 1)[7][0].shape == (4, 5, 1)


def test_one_split_by_save_to_disk_is_train(tmp_path):
    make(rows(range(5))).save_to_disk(tmp_path / "one")
    assert len(open_source(f"hf:{tmp_path / 'one'}", "train")) == 5


def test_parts_and_sums_of_splits_are_as_of_other_sources(saved):
    spec = f"hf:{saved}"
    first, rest = open_source(spec, "train[:60%]"), open_source(spec, "train[60%:]")
    found = [value for value, _ in values(first) + values(rest)]
    assert (len(first), len(rest)) == (12, 8) and sorted(found) == list(range(20))
    # NumPy's RandomState(0) shuffles twenty as 18, 1, 19, 8, 10, 17, 6, ...
    assert found[:7] == [18, 1, 19, 8, 10, 17, 6]
    assert len(open_source(spec, "train[:60%]+test")) == 16


def test_what_the_library_cached_is_used_without_the_hub(parquet, offline):
    open_source(f"hf:{parquet}", "train")
    [info] = offline.rglob("dataset_info.json")
    for config in ("large", "small"):
        copy = offline / "owner___parquet" / config / "0.0.0" / info.parent.name
        shutil.copytree(info.parent, copy)
        text = (copy / "dataset_info.json").read_text()
        (copy / "dataset_info.json").write_text(text.replace('"default"', f'"{config}"'))
        assert values(open_source(f"hf:owner/parquet/{config}", "train"))[19] == (19, 1)
        if config == "large":
            assert len(open_source("hf:owner/parquet", "validation")) == 4
    with pytest.raises(
        ValueError, match=r"parquet cannot be read: .* multiple .*(small, l|large, s)"
    ):
        open_source("hf:owner/parquet", "train")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("owner/nothing", r"nor in the cache .* cannot be reached .*save_to_disk"),
        ("pandas", r"is a format of the library"),
        ("a/b/c/d", r"is not the name of a data set; a data source is hf:OWNER/NAME"),
        ("/", r"hf:/ cannot be read"),
    ],
)
def test_a_data_set_that_is_not_there_says_what_to_do(name, words):
    with pytest.raises(ValueError, match=words):
        open_source(f"hf:{name}", "train")


def test_a_folder_that_is_no_data_set_is_refused(tmp_path, saved):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        open_source(f"hf:{tmp_path / 'nowhere'}", "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty cannot be read"):
        open_source(f"hf:{tmp_path / 'empty'}", "train")
    (tmp_path / "script").mkdir()
    (tmp_path / "script" / "script.py").write_text("raise SystemExit('run')")
    with pytest.raises(ValueError, match=r"script cannot be read"):
        open_source(f"hf:{tmp_path / 'script'}", "train")


def test_without_the_library_the_extra_is_named(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match="needs datasets: pip install datasets"):
        open_source(f"hf:{saved}", "train")


def test_columns_are_found_or_chosen(tmp_path):
    columns = rows(range(6))
    columns["picture"], columns["fine"] = columns.pop("image"), columns.pop("label")
    columns["coarse"] = [0, 1, 0, 1, 0, 1]
    data = make(columns, picture=datasets.Image(), fine=CLASSES,
                coarse=datasets.ClassLabel(names=["a", "b"]))  # fmt: skip
    data.save_to_disk(tmp_path / "two")
    with pytest.raises(ValueError, match=r"several columns of the type ClassLabel.*fine \(Class"):
        open_source(f"hf:{tmp_path / 'two'}", "train")
    coarse = open_source(f"hf:{tmp_path / 'two'}#coarse", "train")
    assert coarse.class_names == ("a", "b") and values(coarse)[1] == (1, 1)
    with pytest.raises(ValueError, match=r"no column size; it has picture \(Image\)"):
        open_source(f"hf:{tmp_path / 'two'}#size", "train")
    with pytest.raises(ValueError, match=r"column picture is Image.*class_encode_column"):
        open_source(f"hf:{tmp_path / 'two'}#picture", "train")
    data.remove_columns("picture").save_to_disk(tmp_path / "none")
    with pytest.raises(ValueError, match=r"no column of images.*it has fine \(ClassLabel\)"):
        open_source(f"hf:{tmp_path / 'none'}#fine", "train")
    data.remove_columns(["fine", "coarse"]).save_to_disk(tmp_path / "unlabelled")
    with pytest.raises(ValueError, match=r"no column of the type ClassLabel"):
        open_source(f"hf:{tmp_path / 'unlabelled'}", "train")


def test_plain_parquet_has_numbers_or_the_names_of_a_file(tmp_path):
    folder = tmp_path / "plain"
    (folder / "data").mkdir(parents=True)
    for split, numbers in (("train", (0, 1, 4)), ("test", (2, 3))):
        pq.write_table(
            pa.table({"image": [png(i) for i in numbers], "label": list(numbers)}),
            folder / "data" / f"{split}.parquet",
        )
    test = open_source(f"hf:{folder}", "test")
    assert values(test) == [(2, 2), (3, 3)] and test.class_names == tuple("01234")
    (folder / "classes.tsv").write_text("".join(f"n{i}\tname {i}\n" for i in range(6)))
    test = open_source(f"hf:{folder}", "test")
    assert values(test) == [(2, 2), (3, 3)] and test.class_names[3] == "name 3"
    assert len(test.class_names) == 6


def test_a_list_of_classes_is_a_multi_hot_label(tmp_path):
    columns = rows(range(4)) | {"label": [[0], [], [2, 1], [1]]}
    make(columns, label=datasets.Sequence(CLASSES)).save_to_disk(tmp_path / "many")
    source = open_source(f"hf:{tmp_path / 'many'}", "train")
    expected = [[1, 0, 0], [0, 0, 0], [0, 1, 1], [0, 1, 0]]
    assert source.labels().tolist() == expected and source.labels().dtype == np.uint8
    assert [source[i][1].tolist() for i in range(4)] == expected


@pytest.mark.parametrize("label", [-1, None])
def test_a_label_that_is_no_class_is_refused(tmp_path, label):
    columns = rows(range(6), lambda i: label if i == 4 else i % 3)
    make(columns).save_to_disk(tmp_path / "odd")
    source = open_source(f"hf:{tmp_path / 'odd'}", "train")
    assert source[3][1] == 0
    for read in (lambda: source[4], source.labels):
        with pytest.raises(
            ValueError, match=rf"4 of train \(4\.png\) has the label {label} .*other"
        ):
            read()


def test_a_broken_image_is_named_and_labels_need_no_images(tmp_path):
    columns = rows(range(6))
    columns["image"][2] = {"bytes": b"broken", "path": "folder/x.png"}
    columns["image"][3] = None
    make(columns).save_to_disk(tmp_path / "odd")
    source = open_source(f"hf:{tmp_path / 'odd'}", "train")
    assert source.labels().tolist() == [0, 1, 2, 0, 1, 2]
    for index, words in (
        (2, r"hf:.*odd, example 2 of train \(x\.png\)"),
        (3, r"example 3 of train has no image"),
    ):
        with pytest.raises(BrokenImage, match=words):
            source[index]
    assert values(open_source(f"hf:{tmp_path / 'odd'}", "train[5:]+train[5:]"))[0][0] in range(6)
    with pytest.raises(IndexError, match="6 examples, none at 6"):
        source[6]


def test_an_address_in_place_of_an_image_is_refused(tmp_path):
    (tmp_path / "data").mkdir()
    image = {"bytes": None, "path": "https://example.org/y.png"}
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.table({"image": pa.array([image], kind), "label": [0]})
    pq.write_table(table, tmp_path / "data" / "train.parquet")
    source = open_source(f"hf:{tmp_path / 'data'}", "train")
    words = r"example 0 of train \(y\.png\) has no image, only the address https:"
    with pytest.raises(BrokenImage, match=words):
        source[0]


def test_images_beside_the_table_are_read_from_their_files(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "images" / "train" / name).mkdir(parents=True)
        for i in range(2):
            (tmp_path / "images" / "train" / name / f"{i}.png").write_bytes(png(i + 50))
    source = open_source(f"hf:{tmp_path / 'images'}", "train")
    assert source.class_names == ("cat", "dog")
    assert sorted(values(source)) == [(50, 0), (50, 1), (51, 0), (51, 1)]


def test_a_file_that_is_cut_short_or_missing_is_refused(saved):
    path = sorted((saved / "train").glob("*.arrow"))[1]
    whole = path.read_bytes()
    for size in (0, 100, len(whole) // 2, len(whole) - 600, len(whole) - 8):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"hf:.*saved cannot be read|arrow is cut short"):
            open_source(f"hf:{saved}", "train")
    path.unlink()
    with pytest.raises(ValueError, match=r"hf:.*saved cannot be read"):
        open_source(f"hf:{saved}", "train")


def test_a_digest_survives_a_move_but_no_change(saved, parquet, tmp_path):
    first = open_source(f"hf:{saved}", "train").digest()
    assert open_source(f"hf:{parquet}", "train").digest() == first
    assert open_source(f"hf:{saved.rename(tmp_path / 'moved')}", "train").digest() == first
    found = {first, open_source(f"hf:{tmp_path / 'moved'}", "test").digest()}
    for i, columns in enumerate((
        rows(range(19, -1, -1)), rows(range(20), lambda i: (i + 1) % 3), rows(range(19)),
        rows(range(20)) | {"image": [{"bytes": png(i), "path": f"{i}x.png"} for i in range(20)]},
    )):  # fmt: skip
        make(columns).save_to_disk(tmp_path / f"{i}")
        found.add(open_source(f"hf:{tmp_path / str(i)}", "train").digest())
    assert len(found) == 6


def test_threads_and_copies_read_the_same(saved):
    source = open_source(f"hf:{saved}", "train")
    copy = pickle.loads(pickle.dumps(source))
    assert copy.digest() == source.digest() and values(copy) == values(source)
    order = np.random.RandomState(0).randint(0, 20, 400)
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda i: int(source[i][0][0, 0, 0]), order.tolist()))
    assert read == order.tolist()


def test_a_worker_process_does_without_the_library(saved, tmp_path):
    (tmp_path / "source").write_bytes(pickle.dumps(open_source(f"hf:{saved}", "train")))
    program = (
        "import pickle, sys; source = pickle.load(open(sys.argv[1], 'rb')); "
        "print(source[13][0][0, 0, 0], 'datasets' in sys.modules, 'pandas' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "source")]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["13", "False", "False"]


@pytest.mark.slow
def test_batches_are_the_same_from_workers_and_from_a_step_on(saved):
    assert_batches_are_the_same(open_source(f"hf:{saved}", "train"))


def test_a_data_set_is_packed_without_splits_that_lack_labels(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    splits = {"train": make(rows(range(20))), "test": make(rows(range(4), lambda i: -1))}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "saved")
    made = prepare(f"hf:{tmp_path / 'saved'}", name="mine")
    assert made.examples == {"train": 20} and "the split test is left out" in caplog.text
    packed = open_source("tfds:mine", "train")
    assert packed.class_names == ("cat", "dog", "eel")
    assert sorted(values(packed)) == [(i, i % 3) for i in range(20)]
    read = [packed._read(i, "") for i in range(20)]
    assert {r["file_name"]: r["image"] for r in read} == {
        f"{i}.png".encode(): png(i) for i in range(20)
    }
    datasets.DatasetDict(test=splits["test"]).save_to_disk(tmp_path / "unlabelled")
    with pytest.raises(ValueError, match="has the label -1"):
        prepare(f"hf:{tmp_path / 'unlabelled'}", name="other")


def test_several_labels_of_an_image_are_packed(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    columns = rows(range(3)) | {"label": [[0], [], [2, 1]]}
    make(columns, label=datasets.Sequence(CLASSES)).save_to_disk(tmp_path / "many")
    prepare(f"hf:{tmp_path / 'many'}", name="many")
    packed = open_source("tfds:many", "train")
    found = {int(image[0, 0, 0]): label.tolist() for image, label in map(packed.__getitem__,
                                                                        range(3))}  # fmt: skip
    assert found == {0: [1, 0, 0], 1: [0, 0, 0], 2: [0, 1, 1]}


def test_an_arrow_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "x.arrow").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"x\.arrow is cut short, or is not an Arrow file"):
        hub_files.batches(str(tmp_path / "x.arrow"))
