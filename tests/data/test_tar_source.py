"""WebDataset's tar files: `wds:PATTERN`."""

import io
import json
import pickle
import tarfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mlp_mixer.data import tar_index
from mlp_mixer.data.images import BrokenImage
from mlp_mixer.data.prepare import from_source, shards
from mlp_mixer.data.prepare.prepare import prepare
from mlp_mixer.data.sources import open_source
from tests.data.conftest import assert_batches_are_the_same, png


def write(path, members) -> None:
    """Writes a tar of {name: content}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            data = content if isinstance(content, bytes) else str(content).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def examples(numbers, label=lambda i: i % 3) -> dict:
    return {
        name: content
        for i in numbers
        for name, content in ((f"{i:04}.png", png(i)), (f"{i:04}.cls", label(i)))
    }


def values(source) -> list[tuple[int, int]]:
    return [(int(image[0, 0, 0]), label) for image, label in map(source.__getitem__,
                                                                range(len(source)))]  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MLP_MIXER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def data(tmp_path):
    """train-000000.tar to train-000003.tar of 5 examples each, and val-000000.tar."""
    root = tmp_path / "data"
    for shard in range(4):
        write(root / f"train-{shard:06}.tar", examples(range(5 * shard, 5 * shard + 5)))
    write(root / "val-000000.tar", examples(range(100, 104)))
    return root


def test_shards_give_each_image_with_its_label_in_order(data):
    expected = [(i, i % 3) for i in range(20)]
    for place in ("train-{000000..000003}.tar", "train-*.tar", "{split}-*.tar", "*.tar", ""):
        source = open_source(f"wds:{data}/{place}".rstrip("/"), "train")
        assert values(source) == expected and source.class_names == ("0", "1", "2")
        assert source.labels().tolist() == [i % 3 for i in range(20)]
        assert source.labels().dtype == np.int32 and source[0][0].shape == (4, 5, 3)
    assert open_source(f"wds:{data}", "train", 1)[7][0].shape == (4, 5, 1)
    assert values(open_source(f"wds:{data}/train-00000{{3,1}}.tar", "train"))[4:6] == [
        (19, 1), (5, 2),
    ]  # fmt: skip


def test_splits_of_different_classes_are_not_joined(tmp_path):
    write(tmp_path / "data/part1/0.tar", examples(range(4)))
    write(tmp_path / "data/part2/0.tar", examples(range(5), label=lambda i: i))
    spec = f"wds:{tmp_path / 'data'}"
    words = r"part1 has 3 classes \(0, 1, 2\), part2 has 5 .*list all classes in classes.txt"
    with pytest.raises(ValueError, match=words):
        open_source(spec, "part1+part2")
    (tmp_path / "data/classes.txt").write_text("a\nb\nc\nd\ne\n")
    joined = open_source(spec, "part1+part2")
    assert joined.labels().tolist() == [0, 1, 2, 0, 0, 1, 2, 3, 4]
    assert joined.class_names == ("a", "b", "c", "d", "e")


def test_parts_and_sums_of_splits_are_as_of_other_sources(data):
    spec = f"wds:{data}"
    first, rest = open_source(spec, "train[:60%]"), open_source(spec, "train[60%:]")
    assert (len(first), len(rest)) == (12, 8)
    found = [value for value, _ in values(first) + values(rest)]
    assert sorted(found) == list(range(20))
    # NumPy's RandomState(0) shuffles twenty as 18, 1, 19, 8, 10, 17, 6, ...
    assert found[:7] == [18, 1, 19, 8, 10, 17, 6]
    assert len(open_source(spec, "train[:60%]+val")) == 16
    assert values(open_source(spec, "validation")) == values(open_source(spec, "test"))


@pytest.mark.parametrize(
    ("names", "split", "found"),
    [
        (("train/0.tar", "test/0.tar"), "train", ["train/0.tar"]),
        (("train/0.tar", "test/0.tar"), "val", ["test/0.tar"]),
        (("v2/0.tar", "train/0.tar"), "v2", ["v2/0.tar"]),
        (("a-train-0.tar", "a-validation-0.tar"), "val", ["a-validation-0.tar"]),
        (("0.tar", "1.tar"), "train", ["0.tar", "1.tar"]),
        (("latest.tar", "contest.tar"), "train", ["contest.tar", "latest.tar"]),
    ],
)
def test_the_split_of_a_shard_is_in_its_name_or_folder(tmp_path, names, split, found):
    for i, name in enumerate(names):
        write(tmp_path / "data" / name, examples([i], lambda i: 0))
    source = open_source(f"wds:{tmp_path / 'data'}", split)
    assert [str(source.file(i).relative_to(tmp_path / "data")) for i in range(len(source))] == found


def test_a_pattern_for_one_split_is_not_taken_for_another(data):
    with pytest.raises(ValueError, match="no split 'val'; it has train"):
        open_source(f"wds:{data}/train-{{000000..000003}}.tar", "val")
    (data / "train-000002.tar").unlink()
    with pytest.raises(ValueError, match=r"1 of 4 files are missing .*train-000002\.tar"):
        open_source(f"wds:{data}/train-{{000000..000003}}.tar", "train")
    with pytest.raises(ValueError, match=r"no tar files match; .* has train-000000\.tar"):
        open_source(f"wds:{data}/x-*.tar", "train")
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        open_source(f"wds:{data}/nowhere", "train")
    with pytest.raises(ValueError, match=r"\{x\} is not understood"):
        open_source(f"wds:{data}/{{x}}.tar", "train")


def test_labels_are_numbers_or_names_of_classes_in_json(tmp_path):
    root = tmp_path / "data"
    write(root / "train.tar", {
        "n1/a.b.txt": "x", "n1/a.json": json.dumps({"label": 1, "fine": "cat"}), "n1/a.PNG": png(7),
        "n1/b.jpg": png(8), "n1/b.json": json.dumps({"label": 0, "fine": "dog"}), "n1/b.cls": "1\n",
        "c.json": "{}", "._b.jpg": b"", ".DS_Store": b"",
    })  # fmt: skip
    assert values(open_source(f"wds:{root}", "train")) == [(7, 1), (8, 1)]  # .cls before .json
    with pytest.raises(ValueError, match=r"labels such as 'cat' .*classes\.txt"):
        open_source(f"wds:{root}#fine", "train")
    (root / "classes.tsv").write_text("dog\tthe dog\ncat\tthe cat\n")
    fine = open_source(f"wds:{root}#fine", "train")
    assert values(fine) == [(7, 1), (8, 0)] and fine.class_names == ("the dog", "the cat")
    write(root / "train.tar", {"a.png": png(1), "a.json": '{"label": [1]}'})
    with pytest.raises(ValueError, match=r"a\.json has the label \[1\]"):
        open_source(f"wds:{root}", "train")
    write(root / "train.tar", {"a.png": png(1), "a.json": "{"})
    with pytest.raises(ValueError, match=r"a\.json is not JSON"):
        open_source(f"wds:{root}", "train")


def test_classes_are_those_of_the_file_or_of_train(tmp_path):
    root = tmp_path / "data"
    write(root / "train/0.tar", examples([0, 1], lambda i: 10 * i))
    write(root / "test/0.tar", examples([5], lambda i: 2))
    for place in (root, root / "{split}" / "*.tar"):
        assert len(open_source(f"wds:{place}", "test").class_names) == 11
    (root / "classes.txt").write_text("".join(f"c{i}\n" for i in range(12)))
    for place in (root, root / "test" / "*.tar"):
        source = open_source(f"wds:{place}", "test")
        assert source.class_names == tuple(f"c{i}" for i in range(12)) and source[0][1] == 2


@pytest.mark.parametrize("label", ["-1", "3", "None"])
def test_a_label_that_is_no_class_is_refused(data, label):
    (data / "classes.txt").write_text("a\nb\nc\n")
    write(data / "val-000001.tar", {"x.png": png(1), "x.cls": label})
    with pytest.raises(ValueError, match=rf"x\.png in .*val-000001\.tar has the label '{label}'"):
        open_source(f"wds:{data}", "val")
    assert len(open_source(f"wds:{data}", "train")) == 20


def test_shards_that_are_not_as_needed_are_refused(data, tmp_path):
    path = data / "train-000001.tar"
    whole = path.read_bytes()
    for size in (100, 1500, len(whole) // 2, 512 * 20):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"train-000001\.tar (is damaged|ends early)"):
            open_source(f"wds:{data}", "train")
    for joined in (whole + whole, whole[:4096] + b"x" * 512 + whole[4608:]):
        path.write_bytes(joined)
        with pytest.raises(ValueError, match=r"000001\.tar is damaged or cut short at byte"):
            open_source(f"wds:{data}", "train")
    with tarfile.open(path, "w:gz"):
        pass
    with pytest.raises(ValueError, match=r"train-000001\.tar is damaged, or not an uncompressed"):
        open_source(f"wds:{data}", "train")
    write(path, {"a.png": png(1), "b.png": png(2), "b.cls": 1})
    with pytest.raises(
        ValueError, match=r"1 of 2 images have no label.*a\.png, which needs a\.cls"
    ):
        open_source(f"wds:{data}", "train")
    write(path, {"a.png": png(1), "a.jpg": png(2), "a.cls": 1})
    with pytest.raises(ValueError, match=r"two images a\.png and a\.jpg of the same example"):
        open_source(f"wds:{data}", "train")
    write(tmp_path / "empty" / "train.tar", {"a.txt": b""})
    with pytest.raises(ValueError, match=r"no images in .*train\.tar"):
        open_source(f"wds:{tmp_path / 'empty'}", "train")


def test_a_broken_image_is_named_with_its_shard(data):
    write(data / "train-000001.tar", {"x.png": b"broken", "x.cls": 1})
    train = open_source(f"wds:{data}", "train")
    with pytest.raises(BrokenImage, match=r"x\.png in .*train-000001\.tar"):
        train[5]
    assert train[6][1] == 10 % 3
    with pytest.raises(IndexError, match="16 examples, none at 16"):
        train[16]
    path = data / "train-000000.tar"
    path.write_bytes(path.read_bytes()[:600])  # after it was opened
    with pytest.raises(BrokenImage, match=r"0004\.png in .*train-000000\.tar ends early"):
        train[4]


def test_the_index_is_read_once_until_a_shard_changes(data, cache, monkeypatch):
    lists, listed = tar_index._list, []
    monkeypatch.setattr(
        tar_index, "_list", lambda path, choice: listed.append(path.name) or lists(path, choice)
    )
    before = values(open_source(f"wds:{data}", "train"))
    assert len(listed) == 4
    assert values(open_source(f"wds:{data}", "train")) == before and len(listed) == 4
    write(data / "train-000002.tar", examples(range(50, 55)))
    assert (50, 2) in values(open_source(f"wds:{data}", "train")) and len(listed) == 8
    [file] = cache.rglob("index.npz")
    file.write_bytes(file.read_bytes()[:-100])  # damaged: made anew
    open_source(f"wds:{data}", "train")
    assert len(listed) == 12 and [path.name for path in file.parent.iterdir()] == ["index.npz"]
    monkeypatch.setenv("MLP_MIXER_CACHE", "/dev/null/no")  # nowhere to write
    assert len(open_source(f"wds:{data}", "train")) == 20


def test_a_digest_survives_a_move_and_other_shards_but_no_change(data, tmp_path):
    first = open_source(f"wds:{data}", "train").digest()
    moved = data.rename(tmp_path / "moved")
    assert open_source(f"wds:{moved}", "train").digest() == first
    write(tmp_path / "one" / "train.tar", examples(range(20)))
    assert open_source(f"wds:{tmp_path / 'one'}", "train").digest() == first
    found = {first, open_source(f"wds:{moved}", "val").digest()}
    write(tmp_path / "one" / "train.tar", examples(reversed(range(20))))
    found.add(open_source(f"wds:{tmp_path / 'one'}", "train").digest())
    write(tmp_path / "one" / "train.tar", examples(range(20), lambda i: (i + 1) % 3))
    found.add(open_source(f"wds:{tmp_path / 'one'}", "train").digest())
    (moved / "classes.txt").write_text("a\nb\nc\n")
    found.add(open_source(f"wds:{moved}", "train").digest())
    assert len(found) == 5


def test_threads_and_copies_read_the_same(data):
    source = open_source(f"wds:{data}", "train")
    copy = pickle.loads(pickle.dumps(source))
    assert copy.digest() == source.digest() and values(copy) == values(source)
    order = np.random.RandomState(0).randint(0, 20, 400)
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda i: int(source[i][0][0, 0, 0]), order.tolist()))
    assert read == order.tolist()


@pytest.mark.slow
def test_batches_are_the_same_from_workers_and_from_a_step_on(data):
    assert_batches_are_the_same(open_source(f"wds:{data}", "train"))


def test_shards_are_packed_with_every_image_unchanged(data, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setattr(from_source, "SHARD", 8)
    (data / "classes.tsv").write_text("n1\tcrane\nn2\tcrane\nn3\tcat\n")
    with pytest.raises(ValueError, match="needs --name"):
        prepare(f"wds:{data}")
    made = prepare(f"wds:{data}", name="mine")
    assert made.source == "tfds:mine" and made.examples == {"train": 20, "val": 4}
    for split in ("train", "val"):
        source, packed = open_source(f"wds:{data}", split), open_source("tfds:mine", split)
        assert packed.class_names == source.class_names == ("crane", "crane", "cat")
        assert sorted(values(packed)) == sorted(values(source))
    files = {packed._read(i, "")["file_name"]: packed._read(i, "")["image"] for i in range(4)}
    assert files == {f"{i:04}.png".encode(): png(i) for i in range(100, 104)}


def test_packing_shards_resumes_after_a_stop(data, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setattr(from_source, "SHARD", 8)
    write_shard, written = shards.write, []

    def stopped(path, records, count):
        if len(written) == 2:
            raise KeyboardInterrupt
        write_shard(path, records, count)
        written.append(path.name)

    monkeypatch.setattr(shards, "write", stopped)
    with pytest.raises(KeyboardInterrupt):
        prepare(f"wds:{data}", name="mine")
    monkeypatch.setattr(
        shards, "write", lambda path, *rest: written.append(path.name) or write_shard(path, *rest)
    )
    prepare(f"wds:{data}", name="mine")
    assert len(written) == len(set(written)) == 4  # 3 of train, 1 of val
