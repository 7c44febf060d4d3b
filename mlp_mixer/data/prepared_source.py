"""TFDS data sets in ArrayRecord format, read without TensorFlow: `tfds:NAME`.

NAME is anything that TFDS calls a data set: `cifar10`, `eurosat/rgb`, `imagenet2012:5.*.*`, or one
of your own that `mlp-mixer prepare` made from a folder. `#FEATURE` at the end chooses the feature
to use as label, as in `cifar100#coarse_label`.
"""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from etils import epath
from tqdm import tqdm

from mlp_mixer.data import images, prepared_features, prepared_files, vtab
from mlp_mixer.data.class_files import read_classes
from mlp_mixer.data.fingerprint import fingerprint

CLASS_NAMES = "classes.tsv"  # readable names of a packed folder's classes, which may be equal
FILE_NAME = "file_name"  # a feature of some data sets, for messages
AT_ONCE = 16  # records to read in parallel for their labels; more would only fill the memory


class TfdsSource:
    """One split of a prepared data set; see `prepared_files.data_dir` for where it must be.

    The label is the feature that the data set declares (`supervised_keys`), else `label`, else the
    only feature with classes. A sequence of classes becomes a multi-hot label; in
    imagenet2012_real it is all zeros if an image has no label.
    """

    def __init__(self, name: str, split: str, channels: int = 3, task: vtab.Task = vtab.AS_IT_IS):
        """Opens a split.

        Args:
            name: TFDS's name of the data set, with #FEATURE or without.
            split: a split in TFDS's notation.
            channels: 3 for RGB, 1 for grey.
            task: the VTAB task that defines the label; by default it is a feature of the data set.

        Raises:
            ValueError: the data set is not prepared, has no such split, or no usable image or
                label; says what to do.
        """
        self.name, self._channels, self._task = f"tfds:{name}", channels, task
        dataset, _, chosen = name.partition("#")
        if task != vtab.AS_IT_IS:
            chosen = task.feature
        builder = prepared_files.find_array_record(dataset)
        import tensorflow_datasets as tfds  # takes over a second, and was checked just now

        features = builder.info.features
        self._image_key = prepared_features.find_image(self.name, builder.info)
        self._label_key = chosen or prepared_features.find_label(self.name, builder.info)
        if self._label_key not in features:
            raise ValueError(
                f"{self.name} has no feature {self._label_key}; it has "
                f"{', '.join(sorted(features))}"
            )
        self.class_names = self._find_class_names(builder, is_chosen=bool(chosen))
        is_sequence = isinstance(features[self._label_key], tfds.features.Sequence)
        self._is_multi_hot = is_sequence and not task.label

        self._records, self._files = prepared_files.open_records(self.name, builder, split)
        keys = [self._image_key, self._label_key, *({FILE_NAME} & set(features))]
        self._parse = prepared_features.make_parser(features, keys)
        self._parse_label = prepared_features.make_parser(features, [self._label_key])
        self._labels: np.ndarray | None = None  # when they have been read

    def _find_class_names(self, builder: Any, is_chosen: bool) -> tuple[str, ...]:
        if self._task.num_classes:
            return tuple(map(str, range(self._task.num_classes)))
        feature = builder.info.features[self._label_key]
        if (classes := prepared_features.find_classes(feature)) is None:
            raise ValueError(
                f"{self.name}: the feature {self._label_key} is {feature!r}, "
                "which is neither a class nor a list of classes"
            )
        readable = epath.Path(builder.data_dir) / CLASS_NAMES
        if readable.exists() and not is_chosen:
            return read_classes(readable)[1]
        return tuple(classes.names)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int | np.ndarray]:
        where = f"{self.name}, record {index}"
        example = self._read(index, where)
        label = self._to_label(example[self._label_key], where)
        file_name = example.get(FILE_NAME)
        if isinstance(file_name, bytes) and file_name:
            where += f" ({file_name.decode(errors='replace')})"
        return self._to_pixels(example[self._image_key], where), label

    def labels(self) -> np.ndarray:
        if self._labels is None:
            examples = map(self._parse_label, self._read_all())
            labels = [
                self._to_label(example[self._label_key], f"{self.name}, record {i}")
                for i, example in enumerate(examples)
            ]
            self._labels = np.asarray(labels, np.uint8 if self._is_multi_hot else np.int32)
        return self._labels

    def digest(self) -> str:
        files = [f"{path.rpartition('/')[2]} {count}" for path, count in self._files]
        return fingerprint(self.class_names, self._image_key, self._label_key, files)

    def _read(self, index: int, where: str) -> dict[str, Any]:
        """Reads one record and parses its features; an image remains encoded."""
        try:
            record = self._records[index]
        except RuntimeError as error:
            message = f"{where} in {self._file(index)} cannot be read: {error}"
            if "Corrupted" in str(error):  # a wrong checksum, where reading again does not help
                raise images.BrokenImage(message) from error
            raise OSError(message) from error
        try:
            return self._parse(record)
        except MemoryError as error:  # not the record's fault, so it must not be skipped as broken
            raise OSError(f"there is not enough memory for {where}") from error
        except Exception as error:  # protobuf, TFDS and NumPy raise many types
            raise images.BrokenImage(f"{where} is damaged: {error}") from error

    def _read_all(self) -> Iterator[bytes]:
        firsts = range(0, len(self), AT_ONCE)
        bar = tqdm(firsts, f"reading labels of {self.name}", disable=None, leave=False, delay=2)
        for first in bar:
            indices = range(first, min(first + AT_ONCE, len(self)))
            try:
                records = self._records.__getitems__(indices)
            except RuntimeError as error:
                raise ValueError(
                    f"{self.name}: the labels of the records {indices[0]} to {indices[-1]} cannot "
                    f"be read: {error}"
                ) from error
            yield from records

    def _file(self, index: int) -> str:
        """Returns the path of the file that contains a record."""
        ends = np.cumsum([count for _, count in self._files])
        return self._files[int(np.searchsorted(ends, index, side="right"))][0]

    def _to_label(self, value: Any, where: str) -> int | np.ndarray:
        """Converts the value of the label's feature to an int, or to multi-hot uint8 [k]."""
        if self._task.label:
            return self._task.label(value)
        classes = np.atleast_1d(np.asarray(value, np.int64))
        if not all(0 <= number < len(self.class_names) for number in classes):
            raise ValueError(  # some test sets have -1 in place of labels
                f"{where} has the label {value}, which is none of its "
                f"{len(self.class_names)} classes"
            )
        if not self._is_multi_hot:
            return int(value)
        multi_hot = np.zeros(len(self.class_names), np.uint8)
        multi_hot[classes] = 1
        return multi_hot

    def _to_pixels(self, image: bytes | np.ndarray, where: str) -> np.ndarray:
        """Decodes an encoded image, or takes an array, as uint8 [h, w, channels]."""
        if isinstance(image, bytes):
            pixels = images.decode(image, self._channels, where)
        else:
            pixels = _with_channels(image, self._channels, where)
        return pixels * np.uint8(self._task.scale) if self._task.scale != 1 else pixels


def _with_channels(image: np.ndarray, channels: int, where: str) -> np.ndarray:
    """Converts uint8 [h, w], [h, w, 1] or [h, w, 3] to [h, w, channels]."""
    image = image.reshape(*image.shape[:2], -1)
    if image.dtype != np.uint8 or image.shape[2] not in (1, 3):
        raise ValueError(
            f"{where} is {image.dtype} {list(image.shape)}, not uint8 with 1 or 3 channels"
        )
    if image.shape[2] == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=2)
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
