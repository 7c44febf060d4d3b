"""Hugging Face data sets: `hf:OWNER/NAME`, `hf:OWNER/NAME/CONFIG` or `hf:FOLDER`.

`#COLUMN` at the end chooses the column to use as label, as in `hf:uoft-cs/cifar100#coarse_label`.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from mlp_mixer.data import hub_files, images, splits
from mlp_mixer.data.class_files import CLASS_FILES, MOST_CLASSES, read_classes
from mlp_mixer.data.fingerprint import fingerprint


class HubSource:
    """One split of a Hugging Face data set, memory-mapped from its Arrow files.

    The image is the first column of the library's type Image, else `image`; the label is the first
    of type ClassLabel, else `label`. A list of classes becomes a multi-hot label. Numbers that are
    no ClassLabel are named by classes.txt or classes.tsv of the folder, else by themselves.

    Once open, it needs only pyarrow: worker processes do not import the library.
    """

    def __init__(self, name: str, split: str, channels: int = 3):
        """Opens a split.

        Args:
            name: what follows hf:, with #COLUMN or without.
            split: the name of a split; test, val and validation stand in for each other.
            channels: 3 for RGB, 1 for grey.

        Raises:
            ValueError: the library or the data set is not there, it has no such split, or no usable
                image or label; says what to do.
            FileNotFoundError: the folder does not exist.
        """
        self.name, self._channels = f"hf:{name}", channels
        dataset, chosen = splits.cut_choice(name)
        found = hub_files.load(dataset)
        self.split = splits.find(split, found, self.name)
        data = found[self.split]
        self._image_key = _find_image(self.name, data.features)
        self._label_key = chosen or _find_label(self.name, data.features)
        self._is_multi_hot, names = _find_classes(self.name, data.features, self._label_key)
        self._files = hub_files.files_of(data, self.name)
        self.class_names = names or self._class_names(hub_files.local_folder(dataset), found)
        self.folders = self.class_names if names else tuple(map(str, range(len(self.class_names))))
        self._labels: np.ndarray | None = None  # when they have been read
        self._open()

    def _class_names(self, folder: Path | None, found: dict[str, Any]) -> tuple[str, ...]:
        """Returns the names of classes of which the data set has only the numbers."""
        for path in [folder / file for file in CLASS_FILES] if folder else ():
            if path.is_file():
                return read_classes(path)[1]
        largest = -1
        for data in found.values():
            if self._label_key in data.features:
                files = hub_files.files_of(data, self.name)
                for numbers in hub_files.read_numbers(files, self._label_key):
                    largest = max(largest, int(numbers.max(initial=-1)))
        if not 0 <= largest < MOST_CLASSES:
            raise ValueError(
                f"{self.name}: the largest number in the column {self._label_key} is {largest}, so "
                "these are not class numbers; choose another column with hf:NAME#COLUMN"
            )
        return tuple(map(str, range(largest + 1)))

    def _open(self) -> None:
        columns = [self._image_key, self._label_key]
        self._batches, counts, self._file_ends = [], [0], []
        for path in self._files:
            for batch in hub_files.batches(path, columns):
                if batch.num_rows:
                    self._batches.append(batch)
                    counts.append(batch.num_rows)
            self._file_ends.append(sum(counts))
        self._firsts = np.cumsum(counts)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "_batches"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def __getitem__(self, index: int) -> tuple[np.ndarray, int | np.ndarray]:
        image, label = self._row(index)
        label = self._to_label(label.as_py(), index)
        return images.decode(self._encoded(image, index), self._channels, self._where(index)), label

    def labels(self) -> np.ndarray:
        if self._labels is None:
            columns = [batch.column(1) for batch in self._batches]
            if self._is_multi_hot:
                rows = (value for column in columns for value in column.to_pylist())
                found = [self._to_label(value, index) for index, value in enumerate(rows)]
                self._labels = np.asarray(found, np.uint8).reshape(-1, len(self.class_names))
            else:
                numbers = list(hub_files.read_numbers(self._files, self._label_key))
                labels = np.concatenate(numbers) if numbers else np.zeros(0, np.int64)
                wrong = np.flatnonzero((labels < 0) | (labels >= len(self.class_names)))
                if len(wrong):
                    self._to_label(self._row(int(wrong[0]))[1].as_py(), int(wrong[0]))
                self._labels = labels.astype(np.int32)
        return self._labels

    def digest(self) -> str:
        names = [
            _base_name(name)
            for batch in self._batches
            for name in _file_names(batch.column(0))
        ]  # fmt: skip
        return fingerprint(
            self.class_names, self._image_key, self._label_key, self.labels(),
            np.asarray(names, np.bytes_),
        )  # fmt: skip

    def read(self, index: int) -> bytes:
        """Reads the encoded image of one example."""
        return self._encoded(self._row(index)[0], index)

    def file(self, index: int) -> Path:
        """Returns the Arrow file that contains one example."""
        return Path(self._files[int(np.searchsorted(self._file_ends, index, side="right"))])

    def file_name(self, index: int) -> bytes:
        """Returns the name of the file that an image was, or nothing if that is not known."""
        value = self._row(index)[0].as_py()
        return _base_name(value.get("path") if isinstance(value, dict) else None)

    def _row(self, index: int) -> tuple[Any, Any]:
        """Returns image and label of one example as Arrow's scalars."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} examples, none at {index}")
        number = int(np.searchsorted(self._firsts, index, side="right")) - 1
        row, batch = index - int(self._firsts[number]), self._batches[number]
        return batch.column(0)[row], batch.column(1)[row]

    def _where(self, index: int) -> str:
        file_name = self.file_name(index).decode(errors="replace")
        where = f"{self.name}, example {index} of {self.split}"
        return f"{where} ({file_name})" if file_name else where

    def _encoded(self, image: Any, index: int) -> bytes:
        value = image.as_py()
        if isinstance(value, dict):
            path = value.get("path")
            value = value.get("bytes")
            if value is None and path:
                if "://" in path or not Path(path).is_absolute():
                    raise images.BrokenImage(
                        f"{self._where(index)} has no image, only the address {path}; save the "
                        "data set with its images, by save_to_disk or as Parquet"
                    )
                return images.read_file(Path(path))
        if not value:
            raise images.BrokenImage(f"{self._where(index)} has no image")
        return value

    def _to_label(self, value: Any, index: int) -> int | np.ndarray:
        """Checks a label; a list of classes becomes multi-hot uint8 [k]."""
        classes = value if self._is_multi_hot and value is not None else [value]
        if not all(type(c) is int and 0 <= c < len(self.class_names) for c in classes):
            raise ValueError(
                f"{self._where(index)} has the label {value} in the column {self._label_key}, "
                f"which is none of its {len(self.class_names)} classes. Splits without labels, "
                "which many test sets are, cannot be used; choose another split, or another column "
                "with hf:NAME#COLUMN"
            )
        if not self._is_multi_hot:
            return int(value)
        multi_hot = np.zeros(len(self.class_names), np.uint8)
        multi_hot[classes] = 1
        return multi_hot


def _base_name(path: str | None) -> bytes:
    return os.fsencode(path.replace("\\", "/").rpartition("/")[2]) if path else b""


def _file_names(column: Any) -> list[str | None]:
    """Returns the paths that a column of images has, without reading images."""
    names = [field.name for field in column.type] if column.type.num_fields else []
    return column.field("path").to_pylist() if "path" in names else [None] * len(column)


def _find_image(name: str, features: Any) -> str:
    import datasets
    import pyarrow as pa

    found = [key for key, feature in features.items() if isinstance(feature, datasets.Image)]
    if found:
        return "image" if "image" in found else found[0]
    if "image" in features:
        kind = pa.schema([features.arrow_schema.field("image")])[0].type
        is_file = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
        if is_file or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            return "image"
    raise ValueError(
        f"{name} has no column of images, of the type Image or called image with encoded files; it "
        f"has {_described(features)}. datasets.Dataset.cast_column makes one of type Image"
    )


def _find_label(name: str, features: Any) -> str:
    found = [key for key, feature in features.items() if _is_class(feature)[0]]
    if "label" in found or (not found and "label" in features):
        return "label"
    if len(found) == 1:
        return found[0]
    raise ValueError(
        f"{name} has {'several columns' if found else 'no column'} of the type ClassLabel, and "
        f"none called label; it has {_described(features)}. Choose one with hf:NAME#COLUMN"
    )


def _is_class(feature: Any) -> tuple[Any, bool]:
    """Returns the ClassLabel of a feature or of its list, or None; and whether it is a list."""
    import datasets

    inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
    if isinstance(inner, datasets.ClassLabel):
        return inner, True
    return (feature if isinstance(feature, datasets.ClassLabel) else None), False


def _find_classes(name: str, features: Any, key: str) -> tuple[bool, tuple[str, ...]]:
    """Returns whether an example may have several classes, and their names, () if unknown."""
    import pyarrow as pa

    if key not in features:
        raise ValueError(f"{name} has no column {key}; it has {_described(features)}")
    label, is_list = _is_class(features[key])
    if label is not None:
        return is_list, tuple(label.names or map(str, range(label.num_classes)))
    if not pa.types.is_integer(features.arrow_schema.field(key).type):
        raise ValueError(
            f"{name}: the column {key} is {features[key]!r}, neither a ClassLabel nor a number. "
            f"datasets.Dataset.class_encode_column({key!r}) makes classes of words; save the "
            "result with save_to_disk, and use hf:FOLDER"
        )
    return False, ()


def _described(features: Any) -> str:
    return ", ".join(f"{key} ({type(feature).__name__})" for key, feature in features.items())
