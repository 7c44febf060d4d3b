"""Images in WebDataset's tar files: `wds:FOLDER` or `wds:PATTERN`.

`#NAME` at the end reads the label from KEY.NAME or the field NAME of KEY.json.
"""

import glob
import itertools
import logging
import os
import re
from pathlib import Path

import numpy as np

from mlp_mixer.data import images, splits, tar_index
from mlp_mixer.data.bucket_copy import is_address, on_disk
from mlp_mixer.data.class_files import CLASS_FILES, MOST_CLASSES, read_classes
from mlp_mixer.data.fingerprint import fingerprint
from mlp_mixer.data.listing import say_once, some

SPLIT = "{split}"  # stands for the split's name in a pattern
WORDS = ("train", "validation", "valid", "val", "test")
_WORD = re.compile(rf"(?<![a-z])({'|'.join(WORDS)})(?![a-z])")


class TarSource:
    """One split of a data set in tar files, where members with one KEY make an example.

    KEY.jpg, or another image, is the image. KEY.cls is the label, or else the field `label` of
    KEY.json: the number of the class, or its name in the first column of the class file.

    The classes are the lines of classes.tsv or classes.txt beside the tar files, or beside the
    folders of splits in which they lie. Without such a file they are numbers, up to the largest
    that the split train has, or this split if there is no train.
    """

    def __init__(self, pattern: str, split: str, channels: int = 3):
        """Opens a split.

        Args:
            pattern: what follows wds:, with #NAME or without; see `find_shards`.
            split: the name of a split; test, val and validation stand in for each other.
            channels: 3 for RGB, 1 for grey.

        Raises:
            ValueError: there are no such files, they are damaged, or images lack labels; says what
                to do.
            FileNotFoundError: the folder does not exist.
        """
        self.name, self._channels = f"wds:{pattern}", channels
        place, choice = splits.cut_choice(pattern)
        found = find_shards(place, split)
        self.split = splits.find(split, found, self.name)
        self._shards = found[self.split]
        self._index = tar_index.of(self._shards, choice, self.name)
        if not len(self):
            raise ValueError(f"{self.name}: no images in {some(list(map(str, self._shards)))}")
        if self._index.left_out:
            say_once(
                logging.WARNING,
                f"{self.name}: {self._index.left_out} files in the shards of {self.split} are not "
                "read: they are not images, and belong to no image",
            )
        self.folders, self.class_names = self._find_classes(place, found, choice)
        self._labels = self._read_labels()

    def _find_classes(
        self, place: str, found: dict[str, list[Path]], choice: str
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        root = _root(place)[0]
        near = (root, root.parent) if root.name in found else (root,)
        for path in (folder / file for folder in near for file in CLASS_FILES):
            if path.is_file():
                return read_classes(path)
        labels = self._index.label
        if self.split != "train" and "train" in found:
            labels = tar_index.of(found["train"], choice, self.name).label
        numbers = labels[np.char.isdigit(labels)].astype(object)
        largest = max(map(int, numbers), default=-1)
        if not 0 <= largest < MOST_CLASSES:
            first = os.fsdecode(labels[0])
            raise ValueError(
                f"{self.name}: labels such as {first!r} are not class numbers; list the "
                f"classes in {root / CLASS_FILES[1]}, one per line, in the order of their numbers"
            )
        names = tuple(map(str, range(largest + 1)))
        return names, names

    def _read_labels(self) -> np.ndarray:
        label_of = {os.fsencode(folder): label for label, folder in enumerate(self.folders)}
        if not any(map(str.isdecimal, self.folders)):
            label_of |= {str(label).encode(): label for label in range(len(self.folders))}
        texts, where = np.unique(self._index.label, return_inverse=True)
        numbers = np.asarray([_number(text, label_of) for text in texts], np.int32)[where]
        if len(wrong := np.flatnonzero(numbers < 0)):
            index = int(wrong[0])
            raise ValueError(
                f"{self._where(index)} has the label {os.fsdecode(self._index.label[index])!r}, "
                f"which is none of the {len(self.folders)} classes {some(self.folders)}. Splits "
                "without labels cannot be used; classes without a training image must be "
                "listed in classes.txt"
            )
        return numbers

    def __len__(self) -> int:
        return len(self._index.shard)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        data = self.read(index)
        return images.decode(data, self._channels, self._where(index)), int(self._labels[index])

    def labels(self) -> np.ndarray:
        return self._labels

    def digest(self) -> str:
        # Not the names of the shards: the same examples in other shards are the same data.
        return fingerprint(self.class_names, self.folders, self._labels, self._index.name)

    def read(self, index: int) -> bytes:
        """Reads the encoded image of one example.

        Raises:
            BrokenImage: the tar file ends before it.
        """
        path, size = self.file(index), int(self._index.size[index])
        with path.open("rb", buffering=0) as file:
            file.seek(int(self._index.offset[index]))
            data = file.read(size)
        if len(data) < size:
            raise images.BrokenImage(f"{self._where(index)} ends early: the tar was cut short")
        return data

    def file(self, index: int) -> Path:
        """Returns the tar file that contains one example."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} examples, none at {index}")
        return self._shards[self._index.shard[index]]

    def file_name(self, index: int) -> bytes:
        """Returns the name that an image has in its tar file, without folders."""
        return self._index.name[index].rpartition(b"/")[2]

    def _where(self, index: int) -> str:
        name = self._index.name[index].decode(errors="backslashreplace")
        return f"{name} in {self.file(index)}"


def _number(text: bytes, label_of: dict[bytes, int]) -> int:
    if text in label_of:
        return label_of[text]
    return label_of.get(str(int(text)).encode(), -1) if text.isdigit() else -1


def find_shards(place: str, split: str = "train") -> dict[str, list[Path]]:
    """Finds the tar files of each split, in order.

    Args:
        place: a folder with tar files, or with a folder of them for each split; or a pattern with
            `*`, `{000..127}`, `{a,b}` and `{split}`. Without {split}, a file belongs to the split
            train, val, validation or test whose name is a word in its own, or is that of its
            folder; if no file has one, all are of the split train.
        split: a name to try for {split}, besides the usual ones.

    Raises:
        ValueError: no file matches, or some of a range are missing.
        FileNotFoundError: the folder does not exist.
    """
    root, pattern = _root(place)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}; a data source wds:{place} needs it")
    if SPLIT in pattern:
        names = dict.fromkeys((split, *WORDS))
        found = {name: _expand(root, pattern.replace(SPLIT, name), place) for name in names}
        found = {name: files for name, files in found.items() if files}
    else:
        patterns = [pattern] if pattern else ["*.tar", "*/*.tar"]
        files = [file for each in patterns for file in _expand(root, each, place)]
        by_split = {file: _split_of(file, None if pattern else root) for file in files}
        found = {name: [file for file in files if by_split[file] == name]
                 for name in dict.fromkeys(by_split.values())}  # fmt: skip
        if not_known := found.pop("", []):
            if found:
                say_once(logging.WARNING, f"wds:{place}: of no split, and not read, are "
                         f"{some([file.name for file in not_known])}")  # fmt: skip
            else:
                found = {"train": not_known}
    if not found:
        here = some(sorted(os.listdir(root))) or "nothing"
        raise ValueError(
            f"wds:{place}: no tar files match; {root} has {here}. Give a folder, or a pattern in "
            "quotes such as wds:'/data/{split}-*.tar' or wds:'/data/train-{000..127}.tar'"
        )
    return found


def _split_of(file: Path, root: Path | None) -> str:
    """Returns the split that the name of a shard or of its folder says, or ""."""
    if words := _WORD.findall(file.stem.lower()):
        return words[0]
    if root is not None and file.parent != root:  # any name, where splits are given as folders
        return file.parent.name
    return file.parent.name if file.parent.name in WORDS else ""


def _root(place: str) -> tuple[Path, str]:
    """Cuts a place into a folder on a disk, and a pattern of files in it ("" for the folder)."""
    plain = re.split(r"[*?\[{]", place, maxsplit=1)[0]
    if plain == place and not place.endswith(".tar"):
        return on_disk(place), ""
    folder = plain.rpartition("/")[0] if "/" in plain else "."
    if plain.startswith("/") and not folder:
        folder = "/"
    pattern = place[len(folder) :].lstrip("/") if "/" in plain else place
    if is_address(place) and re.fullmatch(r"(gs|s3):/*", f"{folder}/"):
        raise ValueError(f"wds:{place}: the bucket's name cannot be a pattern")
    return on_disk(folder), pattern


def _expand(root: Path, pattern: str, place: str) -> list[Path]:
    """Returns the files of a pattern, in the order of its braces, and sorted where it has a *."""
    found: list[Path] = []
    missing = []
    for name in _braces(pattern, place):
        if re.search(r"[*?\[]", name):
            found += [root / file for file in sorted(glob.glob(name, root_dir=root))]
        elif (root / name).is_file():
            found.append(root / name)
        else:
            missing.append(name)
    if missing and found:
        raise ValueError(
            f"wds:{place}: {len(missing)} of {len(missing) + len(found)} files are missing in "
            f"{root}: {some(missing)}"
        )
    return list(dict.fromkeys(found))


def _braces(pattern: str, place: str) -> list[str]:
    """Expands {000..127} and {a,b}, as a shell does."""
    parts = re.split(r"\{([^{}]*)\}", pattern)
    choices = [[part] for part in parts]
    for i, inside in enumerate(parts):
        if i % 2:
            if span := re.fullmatch(r"(\d+)\.\.(\d+)", inside):
                first, last = int(span[1]), int(span[2])
                width = max(len(each) if each.startswith("0") else 0 for each in span.groups())
                choices[i] = [f"{number:0{width}}" for number in range(first, last + 1)]
            else:
                choices[i] = inside.split(",")
            if len(choices[i]) < 1 or (not span and len(choices[i]) < 2):
                raise ValueError(
                    f"wds:{place}: {{{inside}}} is not understood; write {{000..127}}, {{a,b}} or "
                    "{split}"
                )
    return ["".join(each) for each in itertools.product(*choices)]
