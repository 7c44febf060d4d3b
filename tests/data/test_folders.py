"""What lies in folders of images is read, or what is not read is said."""

import logging
import os
import tarfile

import numpy as np
import pytest

from mlp_mixer.data import listing
from mlp_mixer.data.folders import FolderSource
from mlp_mixer.data.sources import open_source
from tests.data.conftest import png


@pytest.fixture
def make(tmp_path):
    """Writes images of one grey value each: {"train/cat/a.png": 7}. Returns the folder."""

    def write(files):
        for name, value in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(value if isinstance(value, bytes) else png(value))
        return tmp_path

    listing.say_once.cache_clear()
    return write


def values(root, split):
    """Grey value and class name of each example, in order."""
    source = open_source(f"folder:{root}", split)
    return [
        (int(image[0, 0, 0]), source.class_names[label])
        for image, label in (source[i] for i in range(len(source)))
    ]


def warnings(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_images_of_every_suffix_are_read_the_rest_logged_once(make, caplog):
    suffixes = ("jpg", "JPEG", "Jpe", "jfif", "PNG", "webp", "bmp", "gif", "tif", "TIFF", "avif",
                "jp2", "ppm", "pgm")  # fmt: skip
    root = make({
        **{f"train/cat/{i:02d}.{suffix}": i for i, suffix in enumerate(suffixes)},
        "train/cat/more/b/x.png": 90, "train/dog/only/y.png": 91,
        "train/dog/z.heic": 0, "train/cat/z.HEIC": 0, "train/cat/notes.txt": b"",
        "train/cat/LIES": b"",
        "train/cat/.hidden.png": 0, "train/cat/._00.jpg": 0, "train/cat/.git/a.png": 0,
        "train/cat/@eaDir/a.png": 0, "train/__MACOSX/a.png": 0, "train/loose.png": 0,
        "train/cat.tar.gz": b"", "train/Thumbs.db": b"", "train/cat/.DS_Store": b"",
        "test/cat/a.png": 1, "test/cat/desktop.ini": b"", "test/dog/a.png": 2,
    })  # fmt: skip
    (root / "train" / "lost+found").mkdir()
    for _ in range(2):
        assert values(root, "train") == [
            *((i, "cat") for i in range(len(suffixes))), (90, "cat"), (91, "dog"),
        ]  # fmt: skip
        assert values(root, "test") == [(1, "cat"), (2, "dog")]
    assert warnings(caplog) == [
        f"{root}/train: not read are .gz (1), __MACOSX/ (1), images beside the class folders (1), "
        "lost+found/ (1), .heic (2 in cat, dog), .txt (1 in cat), @eaDir/ (1 in cat), "
        "files without a suffix (1 in cat), hidden files (3 in cat)"
    ]


def test_of_a_tar_the_same_is_read_and_said(make, caplog):
    files = ("cat/a.PNG", "cat/sub/b.png", "cat/c.heic", "cat/._a.png", "__MACOSX/cat/a.png")
    root = make({"train/dog/a.png": 5} | {f"unpacked/{file}": 1 for file in files})
    with tarfile.open(root / "train" / "cat.tar", "w") as tar:
        for file in files:
            tar.add(root / "unpacked" / file, f"./{file}")
    assert values(root, "train") == [(1, "cat"), (1, "cat"), (5, "dog")]
    (message,) = warnings(caplog)
    assert ".heic (1 in cat), __MACOSX/ (1 in cat), hidden files (1 in cat)" in message
    (root / "train" / "cat").mkdir()
    make({"train/cat/only.png": 9})
    assert values(root, "train") == [(9, "cat"), (5, "dog")]
    assert ".tar beside a folder of that name (1)" in warnings(caplog)[-1]


def test_links_are_followed_but_never_in_circles(make, caplog):
    root = make({"train/cat/a.png": 1, "train/dog/b.png": 2, "far/sub/c.png": 3})
    cat = root / "train" / "cat"
    (root / "train" / "bird").symlink_to(root / "far")  # a class
    (cat / "further").symlink_to(root / "far" / "sub")
    (cat / "linked.png").symlink_to(root / "train" / "dog" / "b.png")
    for name, target in (("up", cat), ("upper", root), ("itself", cat / "itself"), ("lost", "/no")):
        (cat / name).symlink_to(target)
    (root / "far" / "sub" / "back").symlink_to(cat)  # by way of another folder
    (root / "train" / "all").symlink_to(root / "train")
    os.mkfifo(cat / "pipe.png")
    assert sorted(values(root, "train")) == [
        (1, "bird"), (1, "cat"), (2, "bird"), (2, "cat"), (2, "dog"), (3, "bird"), (3, "cat"),
    ]  # fmt: skip
    message = warnings(caplog)[0]
    assert "links to a folder that they lie in (1)" in message
    assert "links to a folder that they lie in (6 in bird, cat)" in message
    assert "links to nothing (4 in bird, cat), pipes or sockets (2 in bird, cat)" in message


def test_an_empty_class_is_refused_where_folders_are_classes(make, caplog):
    root = make({"train/cat/a.png": 1, "train/dog/a.heic": 2, "test/cat/a.png": 3})
    with pytest.raises(ValueError, match=r"train has no images in dog, of 2 class folders"):
        open_source(f"folder:{root}", "train")
    make({"train/dog/a.png": 2})
    assert values(root, "test") == [(3, "cat")]  # a test split may lack a class, and says so
    assert warnings(caplog)[-1].endswith("test has no images of 1 of 2 classes: dog")
    make({"classes.txt": b"cat\ndog\nemu\n"})
    assert len(values(root, "train")) == 2
    assert warnings(caplog)[-1].endswith("train has no images of 1 of 3 classes: emu")
    make({"classes.tsv": b"dog\ncat\n"})
    assert open_source(f"folder:{root}", "train").class_names == ("dog", "cat")
    assert "classes.txt is not read" in warnings(caplog)[-1]


def test_an_empty_folder_is_named(make):
    root = make({"other/a.png": 1})
    (root / "train").mkdir()
    with pytest.raises(ValueError, match=r"train has no class folders; it has: nothing"):
        open_source(f"folder:{root}", "train")


@pytest.mark.parametrize(
    ("classes", "present"),
    [
        ("1 2 3", "0 1 2"),  # one is a class
        ("1 2 4 5 6 7", "1 2 3 4 5"),
        ("10 11 12", "0 1 2"),  # none is, but the classes are numbers
        ("cat 7", "0 1"),
        ("cat dog emu", "0 1"),  # not all
        ("cat dog emu", "1 2 3"),  # from 1 on: in whose order?
        ("cat dog", "0 1 dog"),
    ],
)
def test_folders_that_are_numbers_are_not_guessed_at(make, classes, present):
    root = make(
        {f"train/{name}/a.png": 1 for name in classes.split()}
        | {f"test/{name}/a.png": 1 for name in present.split()}
    )
    with pytest.raises(ValueError, match=r"test has class folders that .*train has not: .*there"):
        open_source(f"folder:{root}", "test")


@pytest.mark.parametrize("width", [1, 2])
def test_folders_that_number_all_classes_are_read_and_it_is_said(make, caplog, width):
    caplog.set_level(logging.INFO)
    names = [f"n{i}" for i in range(11)]  # n10 comes after n1 in the alphabet
    root = make(
        {f"train/{name}/a.png": 1 for name in names}
        | {f"v2/{i:0{width}d}/a.png": i for i in range(11)}
    )
    assert sorted(values(root, "v2")) == list(enumerate(sorted(names)))
    assert caplog.messages == [
        f"{root}/v2: the numbers 0 to 10 are taken to count the classes in alphabetical order, "
        "from n0 to n9"
    ]


@pytest.mark.parametrize(
    ("have", "want"), [("Cat", "cat"), ("caf\u00e9", "cafe\u0301")]
)  # fmt: skip
def test_names_that_only_look_alike_are_told_apart(make, have, want):
    root = make({f"train/{have}/a.png": 1, f"test/{want}/a.png": 1})
    with pytest.raises(ValueError, match="are different names") as error:
        open_source(f"folder:{root}", "test")
    assert f"({want!a} and {have!a} are" in str(error.value)


# --- text files ---


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfblue\r\ngreat red\r\n",
        "blue\ngreat red\n".encode("utf-16"),
        "blue\r\ngreat red".encode("utf-32"),
        b"\n blue \n\ngreat red\t\n",
        b"blue\rgreat red\r",
    ],
)
def test_a_class_file_of_any_editor_is_read(make, text):
    root = make({"train/blue/a.png": 1, "train/great red/a.png": 2, "classes.txt": text})
    assert values(root, "train") == [(1, "blue"), (2, "great red")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"blue\ncaf\xe9\n", r"classes\.txt, line 2: b'caf\\xe9' is not UTF-8"),
        ("blue\n".encode("utf-16-le"), r"line 1: .* is not UTF-8"),  # no mark says so
        (b"blue\n\nblue\n", r"line 3: blue twice, first in line 1"),
        (b"blue\nred\tRed\n", r"line 2: write FOLDER"),
        (b"\tblue\nred\tRed\n", r"line 2: write FOLDER"),
        (b"0\tblue\tB\n2\tred\tR\n", r"line 2: class 1 has the number 2"),
        ("blue\u2028sky\n".encode(), r"line 1: .*one line without tabs"),
        (b"\n \n", r"classes\.txt has no classes"),
        (b"blue red\n", r"classes\.txt has not: blue; there are blue red"),
    ],
)
def test_a_class_file_that_is_wrong_is_one_error_with_its_line(make, text, words):
    root = make({"train/blue/a.png": 1, "classes.txt": text})
    with pytest.raises(ValueError, match=words):
        open_source(f"folder:{root}", "train")


FLAT = {"train/dog/a.png": 1, "train/great dane/a.png": 1, "train/dane/a.png": 1} | {
    f"val/{name}.png": value for value, name in enumerate(("a", "b c", "d"))
}


@pytest.mark.parametrize(
    ("text", "has_numbers"),
    [
        (b"d.png 1\na.png great dane\nb c.png dane\n", True),  # dane, dog, great dane
        (b"\xef\xbb\xbfd.png\tdog\r\n b c.png\tdane\r\na.png\tgreat dane \r\n", False),
        ("b c.png 0\na.png  2\nd.png 1".encode("utf-16"), True),
    ],
)
def test_a_label_file_may_have_blanks_and_come_from_any_editor(make, caplog, text, has_numbers):
    caplog.set_level(logging.INFO)
    root = make(FLAT | {"val.txt": text})
    assert values(root, "val") == [(0, "great dane"), (1, "dane"), (2, "dog")]
    said = f"{root}/val.txt: the numbers 0 to 2 are taken to count the classes in alphabetical"
    assert sum(message.startswith(said) for message in caplog.messages) == has_numbers


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"a.png dog\nno.png dog\n", r"val\.txt, line 2: 'no\.png dog' names no image in .*val;"),
        (b"a.png,dog\n", r"line 1: 'a\.png,dog' ends in none of the 3 classes"),
        (b"a.png 3\n", r"line 1: 'a\.png 3' ends in none of the 3 classes"),
        (b"a.png dog\n\na.png dane\n", r"line 3: a\.png is in line 1 already"),
        (b"a.png caf\xe9\n", r"line 1: b'a\.png caf\\xe9' is not UTF-8"),
        (b"../train/dog/a.png dog\n", r"line 1: .* names no image"),
    ],
)
def test_a_label_file_that_is_wrong_is_one_error_with_its_line(make, text, words):
    root = make(FLAT | {"val.txt": text})
    with pytest.raises(ValueError, match=words):
        open_source(f"folder:{root}", "val")


def test_numbers_in_a_label_file_never_are_places_among_numbers(make, caplog):
    root = make(FLAT | {"val.txt": b"a.png dog\n"})
    assert values(root, "val") == [(0, "dog")]
    assert any("images without a line in val.txt (2)" in text for text in warnings(caplog))
    root = make(
        {"n/train/1/a.png": 1, "n/train/2/a.png": 2, "n/val/a.png": 3, "n/val.txt": b"a.png 1"}
    )
    assert values(root / "n", "val") == [(3, "1")]  # not the second class
    make({"n/val.txt": b"a.png 0"})
    with pytest.raises(ValueError, match="ends in none of the 2 classes"):
        open_source(f"folder:{root}/n", "val")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[[0],\n[1", r"real\.json, line 2: not JSON"),
        (b"{}", r"real\.json has to be a list"),
        (b"[[0], [7]]", r"the classes \[7\], but .* has 2"),
        (b"[[0], 1]", r"the classes 1, but .* has 2, and a list"),
        (b"[[0], [[0]]]", r"the classes \[\[0\]\], but"),
        (b"[[0], [1.0]]", r"the classes \[1\.0\], but"),
        (b"[[0], [true]]", r"the classes \[True\], but"),
    ],
)
def test_real_labels_that_are_wrong_are_one_error(make, text, words):
    root = make({"train/a/a.png": 1, "train/b/a.png": 1, "real.json": text} | {
        f"val/a/ILSVRC2012_val_{i:08d}.png": i for i in (1, 2)
    })  # fmt: skip
    with pytest.raises(ValueError, match=words):
        open_source(f"folder:{root}", "real")
    make({"real.json": b"\xef\xbb\xbf[[0], [0, 1]]\r\n"})
    assert open_source(f"folder:{root}", "real").labels().tolist() == [[1, 0], [1, 1]]


# --- names that are not UTF-8 ---


def test_names_of_files_need_not_be_utf8_but_class_names_must(make, caplog):
    root = make({"train/cat/a.png": 1})
    odd = os.fsencode(root / "train" / "cat") + b"/caf\xe9"
    for name, value in ((odd + b".png", 2), (odd + b".n\xe9", 3)):
        with open(name, "wb") as file:
            file.write(png(value))
    assert values(root, "train") == [(1, "cat"), (2, "cat")]
    assert r".n\xe9 (1 in cat)" in warnings(caplog)[0]
    os.rename(os.fsencode(root / "train" / "cat"), os.fsencode(root / "train") + b"/c\xe2t")
    with pytest.raises(ValueError, match=r"train: the name b'c\\xe2t' of a class is not UTF-8"):
        open_source(f"folder:{root}", "train")
    make({"train/two\nlines/a.png": 1, "classes.txt": b"cat\n"})
    with pytest.raises(ValueError, match=r"has not: c\\xe2t, two"):
        open_source(f"folder:{root}", "train")


def test_examples_are_ordered_by_class_then_by_bytes_of_the_path(make):
    names = ["Z.png", "a-b.png", "a.png", "a/x.png", "a0.png", "b.png", "\u00e9.png"]
    root = make({f"train/cat/{name}": i for i, name in enumerate(names)})
    source = FolderSource(str(root), "train")
    expected = sorted(names, key=os.fsencode)
    assert [str(source.path(i).relative_to(root / "train/cat")) for i in range(7)] == expected
    assert source.groups[0][1].dtype == np.dtype("S7") and source.labels().dtype == np.int32
