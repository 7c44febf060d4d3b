"""Images in a folder for each class, as ImageNet is kept: `folder:PATH`."""

import json
import os
import re
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mlp_mixer.data import images
from mlp_mixer.data.class_files import alphabetical, read_classes, read_labels

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
_SUFFIXES = tuple(map(str.encode, IMAGE_SUFFIXES))
CLASS_FILES = ("classes.tsv", "classes.txt")
SAME_SPLIT = {"test": ("val",), "val": ("test", "validation"), "validation": ("val",)}


class FolderSource:
    """PATH/SPLIT/CLASS/image.jpg, and what else ImageNet comes as (docs/data.md).

    Classes are the lines of PATH/classes.txt or classes.tsv (see `class_files`), or without such a
    file the folders of PATH/train: in alphabetical order, or by number where all are numbers.

    The folder of a split may hold

    * a folder for each class, some of which may be missing; or CLASS.tar, which is read as it is;
    * folders 0, 1, 2, ... that count the classes in alphabetical order of their folders' names, as
      in ImageNet-v2;
    * the images themselves, with lines "FILE CLASS" in PATH/SPLIT.txt, where CLASS is a class's
      folder name or such a number.

    The split "real" is PATH/val with the labels of PATH/real.json: for each ILSVRC2012_val_N.JPEG a
    list of such numbers, which may be empty. Its labels are multi-hot.

    Examples are in order of class and file name. Names are kept as bytes in one array a class: 14
    million files take about 30 bytes each, in tars 16 more.
    """

    def __init__(self, path: str, split: str, channels: int = 3):
        self.name = f"folder:{path}"
        self._channels = channels
        root = Path(path).expanduser()
        if not root.is_dir():
            raise FileNotFoundError(f"no folder {root}; a data source folder:PATH needs it")
        self._folder = _split_folder(root, "val" if split == "real" else split)
        self.folders, self.class_names = _classes(root)
        if present := _subfolders(self._folder):
            self.groups = self._list_class_folders(root, present)
        else:
            self.groups = [("", *read_labels(Path(f"{self._folder}.txt"), self.folders))]
        self._firsts = np.cumsum([0, *(len(names) for _, names, _ in self.groups)])
        if not len(self):
            raise ValueError(
                f"no images in the class folders of {self._folder}; file names must end in "
                f"{', '.join(IMAGE_SUFFIXES)}"
            )
        self._labels = np.concatenate([labels for _, _, labels in self.groups])
        if split == "real":
            self._labels = self._real_labels(root / "real.json")

    def _list_class_folders(
        self, root: Path, present: list[str]
    ) -> list[tuple[str, np.ndarray, np.ndarray]]:
        """Folder, file names (bytes [n]) and labels (int32 [n]) of each class that has a folder."""
        label_of = {folder: label for label, folder in enumerate(self.folders)}
        if unknown := [folder for folder in present if folder not in label_of]:
            if not all(folder.isdecimal() and int(folder) < len(label_of) for folder in present):
                raise ValueError(
                    f"{self._folder} has class folders that {_origin(root)} has not: "
                    f"{', '.join(unknown[:8])}{', ...' if len(unknown) > 8 else ''}"
                )
            order = alphabetical(self.folders)
            label_of = {folder: int(order[int(folder)]) for folder in present}
        present.sort(key=label_of.__getitem__)
        # Threads, as a disk on the network takes its time for each folder.
        with ThreadPoolExecutor(16) as pool:
            listed = pool.map(_image_names, (self._folder / folder for folder in present))
            bar = tqdm(listed, f"listing {self._folder}", len(present), disable=None, leave=False)
            return [
                (folder, names, np.full(len(names), label_of[folder], np.int32))
                for folder, names in zip(present, bar, strict=True)
            ]

    def _real_labels(self, path: Path) -> np.ndarray:
        """uint8 [n, classes]."""
        if not path.is_file():
            raise ValueError(f"the split real needs {path}, the ReaL labels (docs/data.md)")
        real, order = json.loads(path.read_text()), alphabetical(self.folders)
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
            if numbers and not 0 <= min(numbers) <= max(numbers) < len(order):
                raise ValueError(
                    f"{path} gives {file} the classes {numbers}, but {self.name} has {len(order)}"
                )
            labels[i, order[numbers]] = 1
        return labels

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def path(self, index: int) -> Path:
        """The file of one example; of one in a tar, CLASS.tar/NAME."""
        folder, entry = self._entry(index)
        if entry.dtype.names:
            return self._folder / f"{folder}.tar" / os.fsdecode(entry["name"])
        return self._folder / folder / os.fsdecode(entry)

    def read(self, index: int) -> bytes:
        """The contents of that file."""
        folder, entry = self._entry(index)
        if not entry.dtype.names:
            return self.path(index).read_bytes()
        with (self._folder / f"{folder}.tar").open("rb") as file:
            file.seek(int(entry["offset"]))
            return file.read(int(entry["size"]))

    def _entry(self, index: int) -> tuple[str, np.generic]:
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


def _classes(root: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    for name in CLASS_FILES:
        if (root / name).is_file():
            return read_classes(root / name)
    if not (root / "train").is_dir():
        raise ValueError(
            f"{root} has no folder train/ and no classes.txt, so its classes are not known. It "
            f"has: {_listing(root)}"
        )
    folders = tuple(_subfolders(root / "train"))
    if not folders:
        raise ValueError(f"{root / 'train'} has no class folders; it has: {_listing(root)}")
    return folders, folders


def _origin(root: Path) -> Path:
    """Where the classes come from, for messages."""
    return next((root / name for name in CLASS_FILES if (root / name).is_file()), root / "train")


def _split_folder(root: Path, split: str) -> Path:
    for name in (split, *SAME_SPLIT.get(split, ())):
        if (root / name).is_dir():
            return root / name
    raise ValueError(
        f"{root} has no folder {split}/; it needs train/ and test/ (or val/), each with a folder "
        f"of images for each class. It has: {_listing(root)}"
    )


def _subfolders(folder: Path) -> list[str]:
    """Names of the class folders in a folder, and of tars that stand for them."""
    with os.scandir(folder) as entries:
        found = [e.name for e in entries if e.is_dir() or e.name.endswith(".tar")]
    names = {name.removesuffix(".tar") for name in found if not name.startswith(".")}
    numbers = all(name.isdecimal() for name in names)
    return sorted(names, key=lambda name: (int(name) if numbers else 0, name))


def _image_names(folder: Path) -> np.ndarray:
    """File names, bytes [n]; of FOLDER.tar with offset and size of each."""
    if not folder.is_dir():
        return _tar_entries(Path(f"{folder}.tar"))
    return np.sort(np.asarray(list(filter(_is_image, os.listdir(os.fsencode(folder)))), np.bytes_))


def _tar_entries(path: Path) -> np.ndarray:
    try:
        with tarfile.open(path, "r:") as tar:
            files = [(os.fsencode(m.name), m.offset_data, m.size) for m in tar if m.isfile()]
    except tarfile.TarError as error:
        raise ValueError(f"{path} is damaged, or not an uncompressed tar: {error}") from error
    if files and max(start + size for _, start, size in files) > path.stat().st_size:
        raise ValueError(f"{path} ends early: it was cut short")
    files = sorted(file for file in files if _is_image(file[0].rpartition(b"/")[2]))
    width = max((len(name) for name, _, _ in files), default=1)
    return np.asarray(files, [("name", f"S{width}"), ("offset", np.int64), ("size", np.int64)])


def _is_image(name: bytes) -> bool:
    return name.lower().endswith(_SUFFIXES) and not name.startswith(b".")


def _listing(folder: Path, limit: int = 8) -> str:
    names = sorted(os.listdir(folder))
    return ", ".join(names[:limit] + ["..."] * (len(names) > limit)) or "nothing"
