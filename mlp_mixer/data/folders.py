"""Images in one folder per class, as in ImageNet: `folder:PATH`."""

import logging
import os
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from mlp_mixer.data import images, splits
from mlp_mixer.data.bucket_copy import on_disk
from mlp_mixer.data.class_files import (
    CLASS_FILES,
    alphabetical,
    check_name,
    classes_of,
    read_classes,
    read_json,
    read_labels,
)
from mlp_mixer.data.fingerprint import fingerprint
from mlp_mixer.data.listing import (
    IMAGE_SUFFIXES,
    class_folders,
    list_images,
    say_once,
    say_what_is_left_out,
    some,
)


class FolderClasses(NamedTuple):
    """The classes of a folder that does not tell them itself.

    Attributes:
        folders: names of their folders.
        names: readable names, or the same.
        origin: what to call the list in messages.
    """

    folders: tuple[str, ...]
    names: tuple[str, ...]
    origin: str


class FolderSource:
    """PATH/SPLIT/CLASS/image.jpg, and ImageNet's other layouts (docs/reference/data.md).

    The classes are the lines of PATH/classes.tsv or classes.txt (see `class_files`). Without such a
    file they are the folders of PATH/train: in alphabetical order, or in numerical order if all
    are numbers.

    The folder of a split may contain

    * a folder for each class, with images in it and in its subfolders, or CLASS.tar, which is read
      without unpacking. Without a class file, every class of train/ must have images; in other
      splits it may have none;
    * folders 0 to n - 1, if there are n classes and none is named by a number: they count the
      classes in alphabetical order of folder names, as in ImageNet-v2;
    * the images themselves, with lines "FILE CLASS" in PATH/SPLIT.txt, where CLASS is the folder
      name of a class or such a number.

    The split "real" is PATH/val with the labels of PATH/real.json: for each ILSVRC2012_val_N.JPEG a
    list of such numbers, which may be empty. Its labels are multi-hot.

    One warning lists what was found but is not read. Examples are sorted by class and file name.
    Names are kept as bytes in one array per class, as there may be 14 million of them: each takes
    about 30 bytes, and 16 more in a tar.
    """

    def __init__(
        self, path: str, split: str, channels: int = 3, classes: FolderClasses | None = None
    ):
        """Opens a split.

        Args:
            path: the folder.
            split: the split, or "" if the class folders lie in PATH itself.
            channels: 3 for RGB, 1 for grey.
            classes: the classes, of which any may have no images; by default PATH tells them.

        Raises:
            ValueError: the folder does not have this form, or its class folders are not classes.
            FileNotFoundError: there is no such folder.
        """
        self.name = f"folder:{path}"
        self._channels = channels
        root = on_disk(path)
        if not root.is_dir():
            raise FileNotFoundError(f"no folder {root}; a data source folder:PATH needs it")
        self._folder = _split_folder(root, "val" if split == "real" else split)
        self.split = split if split == "real" else self._folder.name
        self.folders, self.class_names = classes[:2] if classes else _classes(root)
        self._origin = classes.origin if classes else str(_origin(root))
        present, beside = class_folders(self._folder)
        left_out = {"": beside}
        if present:
            self.groups = self._list_class_folders(present, left_out)
        else:
            self.groups = [self._list_flat_folder(left_out)]
        self._firsts = np.cumsum([0, *(len(names) for _, names, _ in self.groups)])
        say_what_is_left_out(self._folder, left_out)
        if not len(self):
            raise ValueError(
                f"no images in {'the class folders of ' if present else ''}{self._folder}; file "
                f"names must end in {', '.join(IMAGE_SUFFIXES)}"
            )
        self._labels = np.concatenate([labels for _, _, labels in self.groups])
        if not classes:
            self._check_classes(root)
        if split == "real":
            self._labels = self._real_labels(root / "real.json")

    def _list_class_folders(
        self, present: list[str], left_out: dict[str, Counter]
    ) -> list[tuple[str, np.ndarray, np.ndarray]]:
        """Lists folder, file names (bytes [n]) and labels (int32 [n]) of each class present."""
        label_of = classes_of(present, self.folders, self._folder, self._origin)
        present.sort(key=label_of.__getitem__)
        groups = []
        # In threads, because a network disk takes long to list each folder.
        with ThreadPoolExecutor(16) as pool:
            listed = pool.map(list_images, (self._folder / folder for folder in present))
            bar = tqdm(listed, f"listing {self._folder}", len(present), disable=None, leave=False)
            for folder, (names, others) in zip(present, bar, strict=True):
                groups.append((folder, names, np.full(len(names), label_of[folder], np.int32)))
                if others:
                    left_out[folder] = others
        return groups

    def _list_flat_folder(self, left_out: dict[str, Counter]) -> tuple[str, np.ndarray, np.ndarray]:
        """Lists the same for images that lie side by side; their folder is ""."""
        files, left_out[""] = list_images(self._folder)
        names, labels = read_labels(Path(f"{self._folder}.txt"), self.folders, files)
        if len(names) < len(files):
            left_out[""][f"images without a line in {self._folder.name}.txt"] = len(files) - len(
                names
            )
        return "", names, labels

    def _check_classes(self, root: Path) -> None:
        """Warns of classes without images; an error if the split's own folders are the classes."""
        counts = np.bincount(self._labels, minlength=len(self.folders))
        empty = [self.folders[label] for label in np.flatnonzero(counts == 0)]
        if empty and self._folder == _origin(root):
            raise ValueError(
                f"{self._folder} has no images in {some(empty)}, of {len(self.folders)} class "
                f"folders. Add images, remove the folders, or list all classes in "
                f"{root / CLASS_FILES[1]}, where classes may have no images"
            )
        if empty:
            say_once(
                logging.WARNING,
                f"{self._folder} has no images of {len(empty)} of {len(self.folders)} classes: "
                f"{some(empty)}",
            )

    def _real_labels(self, path: Path) -> np.ndarray:
        """Reads the ReaL labels, multi-hot uint8 [n, classes]."""
        if not path.is_file():
            raise ValueError(
                f"the split real needs {path}, the ReaL labels (docs/reference/data.md)"
            )
        real, order = read_json(path), alphabetical(self.folders)
        if not isinstance(real, list):
            raise ValueError(f"{path} has to be a list with the classes of each image")
        labels = np.zeros((len(self), len(self.folders)), np.uint8)
        for i in range(len(self)):
            file = self.path(i).name
            found = re.search(r"_val_(\d+)\.", file)
            if not found or not 0 < int(found[1]) <= len(real):
                raise ValueError(
                    f"{self._folder}: {file} is not named as ILSVRC2012_val_00000001.JPEG to "
                    f"{len(real):08d}, the number by which {path} has its labels"
                )
            numbers = real[int(found[1]) - 1]
            if not isinstance(numbers, list) or not all(
                type(number) is int and 0 <= number < len(order) for number in numbers
            ):
                raise ValueError(
                    f"{path} gives {file} the classes {numbers}, but {self.name} has {len(order)}, "
                    "and a list of their numbers is needed"
                )
            labels[i, order[numbers]] = 1
        return labels

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def path(self, index: int) -> Path:
        """Returns the path of one example; CLASS.tar/NAME if it is in a tar."""
        folder, entry = self._entry(index)
        if entry.dtype.names:
            return self._folder / f"{folder}.tar" / os.fsdecode(entry["name"])
        return self._folder / folder / os.fsdecode(entry)

    def read(self, index: int) -> bytes:
        """Reads the encoded image of one example."""
        _, entry = self._entry(index)
        if not entry.dtype.names:
            return images.read_file(self.path(index))
        with self.file(index).open("rb") as file:
            file.seek(int(entry["offset"]))
            return file.read(int(entry["size"]))

    def file(self, index: int) -> Path:
        """Returns the file that contains one example: its `path`, or the tar."""
        folder, entry = self._entry(index)
        return self._folder / f"{folder}.tar" if entry.dtype.names else self.path(index)

    def file_name(self, index: int) -> bytes:
        """Returns the name of an image's file."""
        return os.fsencode(self.path(index).name)

    def _entry(self, index: int) -> tuple[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} examples, none at {index}")
        group = int(np.searchsorted(self._firsts, index, side="right")) - 1
        folder, names, _ = self.groups[group]
        return folder, names[index - int(self._firsts[group])]

    def __getitem__(self, index: int) -> tuple[np.ndarray, int | np.ndarray]:
        path, label = self.path(index), self._labels[index]
        if self._entry(index)[1].dtype.names:
            image = images.decode(self.read(index), self._channels, f"{path.name} in {path.parent}")
        else:
            image = images.decode_file(path, self._channels)
        return image, label if label.ndim else int(label)

    def labels(self) -> np.ndarray:
        return self._labels

    def digest(self) -> str:
        folders = [folder for folder, _, _ in self.groups]
        # Only the names in a tar count: packing it again may change the offsets.
        names = [names["name"] if names.dtype.names else names for _, names, _ in self.groups]
        return fingerprint(self.class_names, folders, self._labels, *names)


def _classes(root: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    files = [root / name for name in CLASS_FILES if (root / name).is_file()]
    if files:
        if files[1:]:
            say_once(logging.WARNING, f"{files[0]} gives the classes; {files[1]} is not read")
        return read_classes(files[0])
    if not (root / "train").is_dir():
        raise ValueError(
            f"{root} has no folder train/ and no classes.txt, so its classes are not known. It "
            f"has: {_listing(root)}"
        )
    folders = tuple(class_folders(root / "train")[0])
    if not folders:
        raise ValueError(
            f"{root / 'train'} has no class folders; it has: {_listing(root / 'train')}"
        )
    for folder in folders:
        check_name(folder, str(root / "train"))
    return folders, folders


def _origin(root: Path) -> Path:
    """Returns the file or folder that defines the classes."""
    return next((root / name for name in CLASS_FILES if (root / name).is_file()), root / "train")


def _split_folder(root: Path, split: str) -> Path:
    name = splits.first(split, lambda name: (root / name).is_dir(), f"folder:{root}")
    if name is None:
        raise ValueError(
            f"{root} has no folder {split}/; it needs train/ and test/ (or val/), each with a "
            f"folder of images for each class. It has: {_listing(root)}. Without a test/, "
            "train on the split train[:90%] and test on train[90%:]"
        )
    return root / name


def _listing(folder: Path) -> str:
    return some(sorted(os.listdir(folder))) or "nothing"
