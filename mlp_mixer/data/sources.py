"""Sources of labelled images: `open_source("folder:PATH" | "tfds:NAME" | ..., split)`.

A source gives random access to one split of a data set: `source[i]` is an image, uint8
[h, w, channels], and a label. Order and content never change between runs, which makes batch k a
pure function of (seed, k).
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from mlp_mixer.data import splits, vtab
from mlp_mixer.data.digits import DigitsSource
from mlp_mixer.data.fingerprint import fingerprint
from mlp_mixer.data.folders import FolderSource
from mlp_mixer.data.hub_source import HubSource
from mlp_mixer.data.listing import some
from mlp_mixer.data.prepared_source import TfdsSource
from mlp_mixer.data.tar_source import TarSource


class Source(Protocol):
    """One split of a labelled image data set.

    A label is an int, or multi-hot uint8 [k] where an image may have several of the k classes or
    none.
    """

    name: str  # as the user wrote it, for messages
    class_names: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[np.ndarray, int | np.ndarray]:
        """Returns the image, uint8 [h, w, channels], and the label of one example.

        Raises:
            ValueError: the image cannot be decoded; names its file or record.
        """

    def labels(self) -> np.ndarray:
        """Returns all labels, int32 [len] or uint8 [len, k], without decoding images."""

    def digest(self) -> str:
        """Returns a hex digest of the names of classes and files, the labels, and their order.

        It is cheap to compute, and does not depend on pixels or on where the data is stored.
        """


def open_source(spec: str, split: str, channels: int = 3) -> Source:
    """Opens one split of a data set.

    Args:
        spec: "digits" or "digits:TASK" (see `data.digits`), "folder:PATH" (`data.folders`),
            "wds:PATTERN" (`data.tar_source`), "hf:NAME" (`data.hub_source`), "tfds:NAME"
            (`data.prepared_source`) or "vtab:TASK" (`data.vtab`).
        split: "train", "test", or another split of the data set; a part of one in TFDS's notation,
            such as "train[:98%]" or "train[1000:2000]"; or several of these joined with a +.
        channels: 3 for RGB, 1 for grey.

    Raises:
        ValueError: the kind of source or the split is unknown, or the data is unusable; says what
            to do.
        FileNotFoundError: the folder does not exist.
    """
    if "+" in split:
        parts = split.split("+")
        return _joined(spec, parts, [open_source(spec, part, channels) for part in parts])
    kind, _, argument = spec.partition(":")
    if kind == "vtab" and argument:
        task = vtab.task(argument)
        return TfdsSource(task.dataset, split, channels, task)
    if kind == "tfds" and argument:
        return TfdsSource(argument, split, channels)  # TFDS parses parts of splits itself
    part = splits.parse(split)
    if kind == "digits":
        source: Source = DigitsSource(argument or "digit", part.split, channels)
    elif kind == "folder" and argument:
        source = FolderSource(argument, part.split, channels)
    elif kind == "wds" and argument:
        source = TarSource(argument, part.split, channels)
    elif kind == "hf" and argument:
        source = HubSource(argument, part.split, channels)
    else:
        raise ValueError(
            f"unknown data source {spec!r}; use digits, digits:TASK, folder:PATH, wds:PATTERN, "
            "hf:NAME, tfds:NAME or vtab:TASK"
        )
    return source if part.is_whole else Subset(source, _part_indices(source, part))


def _joined(spec: str, parts: Sequence[str], sources: Sequence[Source]) -> Source:
    """Joins parts of splits, which must have the same classes and be of the splits they name."""
    asked: dict[str, str] = {}
    for part, source in zip(parts, sources, strict=True):
        if source.class_names != sources[0].class_names:
            raise ValueError(
                f"{spec}: {parts[0]} has {len(sources[0].class_names)} classes "
                f"({some(sources[0].class_names)}), {part} has {len(source.class_names)} "
                f"({some(source.class_names)}); to join them, list all classes in classes.txt"
            )
        whole = source._source if isinstance(source, Subset) else source
        name = part.partition("[")[0]
        found = getattr(whole, "split", name)  # test may be val
        if asked.setdefault(found, name) != name:
            raise ValueError(
                f"{spec}: {asked[found]} and {name} are the same images, its split {found}; "
                "name it only once"
            )
    return Joined(sources)


class Subset:
    """Some examples of another source, by their indices there."""

    def __init__(self, source: Source, indices: np.ndarray):
        self._source, self._indices = source, indices
        self.name, self.class_names = source.name, source.class_names

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int | np.ndarray]:
        return self._source[int(self._indices[index])]

    def labels(self) -> np.ndarray:
        return self._source.labels()[self._indices]

    def digest(self) -> str:
        return fingerprint(self._source.digest(), self._indices)


class Joined:
    """The concatenation of several sources with the same classes."""

    def __init__(self, sources: Sequence[Source]):
        self._sources = sources
        self.name, self.class_names = sources[0].name, sources[0].class_names
        self._firsts = np.cumsum([0, *map(len, sources)])

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def __getitem__(self, index: int) -> tuple[np.ndarray, int | np.ndarray]:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} examples, none at {index}")
        part = int(np.searchsorted(self._firsts, index, side="right")) - 1
        return self._sources[part][index - int(self._firsts[part])]

    def labels(self) -> np.ndarray:
        return np.concatenate([source.labels() for source in self._sources])

    def digest(self) -> str:
        return fingerprint(*(source.digest() for source in self._sources))


def take_per_class(source: Source, count: int, seed: int = 0) -> Source:
    """Draws `count` examples of each class, the same ones for the same seed.

    Raises:
        ValueError: a class has fewer examples, or images have several labels.
    """
    labels = source.labels()
    if labels.ndim > 1:
        raise ValueError(f"data.examples_per_class: images of {source.name} have several labels")
    order = np.random.RandomState(seed).permutation(len(labels))
    chosen = []
    for label, class_name in enumerate(source.class_names):
        of_class = order[labels[order] == label][:count]
        if len(of_class) < count:
            raise ValueError(
                f"data.examples_per_class is {count}, but the class {class_name!r} of "
                f"{source.name} has {len(of_class)} examples"
            )
        chosen.append(of_class)
    return Subset(source, np.concatenate(chosen))


def spread(source: Source, count: int) -> Source:
    """Takes `count` examples, or all if there are not more, evenly spread over the source.

    Raises:
        ValueError: `count` is not positive.
    """
    if count < 1:
        raise ValueError(f"examples={count}; give a whole number from 1 on")
    if count >= len(source):
        return source
    return Subset(source, np.arange(count) * len(source) // count)


def _part_indices(source: Source, part: splits.Part) -> np.ndarray:
    chosen = part.of(len(source), source.name)
    # Shuffled first, with a fixed seed, because a folder is sorted by class, as others may be.
    return np.random.RandomState(0).permutation(len(source))[chosen.start : chosen.stop]
