"""Where labelled images come from: `open_source("folder:PATH" | "tfds:NAME" | ..., split)`.

A source is one split of a data set with random access: `source[i]` is a uint8 image
[h, w, channels] and an int label. Order and content never change between runs, which is what makes
batch k a pure function of (seed, k).
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from mlp_mixer.data import images, vtab
from mlp_mixer.data.digits import DigitsSource

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")


class Source(Protocol):
    """One split of a labelled image data set."""

    name: str  # as the user wrote it, for messages
    class_names: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        """The image, uint8 [h, w, channels], and the label of one example."""

    def labels(self) -> np.ndarray:
        """Every example's label, int32 [len], without decoding images."""


def open_source(spec: str, split: str, channels: int = 3) -> Source:
    """Opens one split of a data set.

    Args:
        spec: "digits" or "digits:TASK" (see `data.digits`), "folder:PATH", "tfds:NAME" or
            "vtab:TASK" (see `data.vtab`).
        split: "train" or "test", or another that the data set has; with a part of it in brackets
            as TFDS writes it, such as "train[:98%]" or "train[1000:2000]"; several with a + between
            them.
        channels: 3 for RGB, 1 for grey.

    Raises:
        ValueError: unknown kind of source or split, or nothing usable in it; says what to do.
        FileNotFoundError: a folder that does not exist.
    """
    if "+" in split:
        return Joined([open_source(spec, part, channels) for part in split.split("+")])
    kind, _, argument = spec.partition(":")
    if kind == "vtab" and argument:
        task = vtab.task(argument)
        return TfdsSource(task.dataset, split, channels, task)
    if kind == "tfds" and argument:
        return TfdsSource(argument, split, channels)  # TFDS has sub-splits of its own
    base, part = _parse_split(split)
    if kind == "digits":
        source: Source = DigitsSource(argument or "digit", base, channels)
    elif kind == "folder" and argument:
        source = FolderSource(argument, base, channels)
    else:
        raise ValueError(
            f"unknown data source {spec!r}; use digits, digits:TASK, folder:PATH, tfds:NAME or "
            "vtab:TASK"
        )
    return source if part is None else Subset(source, _part_indices(source, split, part))


# --- parts of a source ---


class Subset:
    """Some examples of another source."""

    def __init__(self, source: Source, indices: np.ndarray):
        self._source, self._indices = source, indices
        self.name, self.class_names = source.name, source.class_names

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self._source[int(self._indices[index])]

    def labels(self) -> np.ndarray:
        return self._source.labels()[self._indices]


class Joined:
    """The examples of several sources of the same classes, one after the other."""

    def __init__(self, sources: Sequence[Source]):
        self._sources = sources
        self.name, self.class_names = sources[0].name, sources[0].class_names
        self._firsts = np.cumsum([0, *map(len, sources)])

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} examples, none at {index}")
        part = int(np.searchsorted(self._firsts, index, side="right")) - 1
        return self._sources[part][index - int(self._firsts[part])]

    def labels(self) -> np.ndarray:
        return np.concatenate([source.labels() for source in self._sources])


def take_per_class(source: Source, count: int, seed: int = 0) -> Source:
    """`count` examples of each class, the same ones for the same seed.

    Raises:
        ValueError: a class has fewer.
    """
    labels = source.labels()
    order = np.random.RandomState(seed).permutation(len(labels))
    chosen = []
    for label, class_name in enumerate(source.class_names):
        of_class = order[labels[order] == label][:count]
        if len(of_class) < count:
            raise ValueError(
                f"{source.name}: class {class_name!r} has {len(of_class)} examples, but "
                f"{count} a class were asked for"
            )
        chosen.append(of_class)
    return Subset(source, np.concatenate(chosen))


def _parse_split(split: str) -> tuple[str, tuple[str, str] | None]:
    match = re.fullmatch(r"(\w+)(?:\[(-?\d*%?):(-?\d*%?)\])?", split)
    if not match:
        raise ValueError(f"cannot read split {split!r}; write it like train, test or train[:98%]")
    base, start, stop = match.groups()
    return base, None if start is None else (start, stop)


def _part_indices(source: Source, split: str, part: tuple[str, str]) -> np.ndarray:
    def position(text: str, default: int) -> int:
        if not text:
            return default
        if text.endswith("%"):
            return round(int(text[:-1]) * len(source) / 100)
        return int(text)

    # Shuffled first (always in the same way): a folder is sorted by class.
    order = np.random.RandomState(0).permutation(len(source))
    indices = order[position(part[0], 0) : position(part[1], len(source))]
    if not len(indices):
        raise ValueError(f"{source.name}: split {split!r} of {len(source)} examples is empty")
    return indices


# --- folders ---


class FolderSource:
    """PATH/SPLIT/CLASS/image.jpg; classes are the folders of PATH/train in alphabetical order.

    The split "test" is read from PATH/val where there is no PATH/test, and the other way round.
    """

    def __init__(self, path: str, split: str, channels: int = 3):
        self.name = f"folder:{path}"
        root = Path(path).expanduser()
        if not root.is_dir():
            raise FileNotFoundError(f"no folder {root}; a data source folder:PATH needs it")
        folder = root / split
        if not folder.is_dir() and split in ("test", "val"):
            folder = root / {"test": "val", "val": "test"}[split]
        for needed in (root / "train", folder):
            if not needed.is_dir():
                raise ValueError(
                    f"{root} has no folder {needed.name}/; it needs train/ and test/ (or val/), "
                    f"each with a folder of images for each class. It has: {_listing(root)}"
                )
        self.class_names = tuple(_subfolders(root / "train"))
        if not self.class_names:
            raise ValueError(f"{root / 'train'} has no class folders; it has: {_listing(root)}")
        if unknown := sorted(set(_subfolders(folder)) - set(self.class_names)):
            raise ValueError(
                f"{folder} has class folders that {root / 'train'} has not: {', '.join(unknown)}"
            )
        self._folder, self._channels = folder, channels
        self._files: list[str] = []  # CLASS/NAME, so that millions of them stay small
        labels = []
        for label, class_name in enumerate(self.class_names):
            names = _image_names(folder / class_name)
            self._files += [f"{class_name}/{name}" for name in names]
            labels += [label] * len(names)
        self._labels = np.asarray(labels, np.int32)
        if not self._files:
            raise ValueError(
                f"no images in the class folders of {folder}; file names must end in "
                f"{', '.join(IMAGE_SUFFIXES)}"
            )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        path = self._folder / self._files[index]
        return images.decode_file(path, self._channels), int(self._labels[index])

    def labels(self) -> np.ndarray:
        return self._labels


def _subfolders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _image_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []  # a class without test images
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if not e.name.startswith(".")]
    return sorted(name for name in names if name.lower().endswith(IMAGE_SUFFIXES))


def _listing(folder: Path, limit: int = 8) -> str:
    names = sorted(os.listdir(folder))
    return ", ".join(names[:limit] + ["..."] * (len(names) > limit)) or "nothing"


# --- TFDS -----------------------------------------------------------------------------------------


class TfdsSource:
    """A prepared TFDS data set in ArrayRecord format, read without TensorFlow.

    Data sets are looked for where TFDS keeps them: ~/tensorflow_datasets or $TFDS_DATA_DIR.
    """

    def __init__(self, name: str, split: str, channels: int = 3, task: vtab.Task = vtab.AS_IT_IS):
        """`task` says what the label is, where it is not simply the one of the data set."""
        import tensorflow_datasets as tfds  # over a second to import, and only this needs it

        self.name, self._task = f"tfds:{name}", task
        try:
            folder = os.environ.get("TFDS_DATA_DIR")
            builder = tfds.builder(name, data_dir=folder, file_format="array_record")
        except tfds.core.DatasetNotFoundError as error:
            raise ValueError(f"{self.name}: TFDS has no data set of this name") from error
        # Checked before data_source(), which would retry a download for minutes.
        if not builder.info.splits:
            raise ValueError(_how_to_prepare(name, builder))
        features = builder.info.features
        if not {"image", task.feature} <= set(features):
            raise ValueError(
                f"{self.name} has the features {', '.join(features)}; it needs image and "
                f"{task.feature}"
            )
        try:
            self._records: Sequence = builder.as_data_source(
                split=split, decoders={"image": tfds.decode.SkipDecoding()}
            )
        except (ValueError, KeyError, AssertionError) as error:
            raise ValueError(
                f"{self.name} has no split {split!r}; it has {', '.join(builder.info.splits)}, and "
                "parts such as train[:98%]"
            ) from error
        if task.num_classes:
            self.class_names = tuple(map(str, range(task.num_classes)))
        else:
            self.class_names = tuple(features[task.feature].names)
        self._channels = channels

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        record = self._records[index]
        where = f"{self.name}, record {index}"
        image = images.decode(record["image"], self._channels, where)
        return image * np.uint8(self._task.scale), self._label(record)

    def _label(self, record) -> int:
        label = record[self._task.feature]
        return self._task.label(label) if self._task.label else int(label)

    def labels(self) -> np.ndarray:
        return np.asarray([self._label(self._records[i]) for i in range(len(self))], np.int32)


def _how_to_prepare(name: str, builder) -> str:
    found = Path(builder.data_dir)
    if found.is_dir() and any(found.glob("*.tfrecord*")):
        problem = f"is prepared as TFRecord in {found}, which has no random access"
    else:
        problem = f"is not prepared: no ArrayRecord files in {found}"
    return (
        f"tfds:{name} {problem}. Prepare it once, where TensorFlow is installed (pip install "
        f'tensorflow-cpu), with\n  python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder('{name}', file_format='array_record').download_and_prepare()\"\n"
        "or set TFDS_DATA_DIR to the folder that holds it."
    )
