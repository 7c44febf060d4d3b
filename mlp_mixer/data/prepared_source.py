"""TFDS data sets in ArrayRecord format, read without TensorFlow: `tfds:NAME`.

NAME is anything that TFDS calls a data set: `cifar10`, `eurosat/rgb`, `imagenet2012:5.*.*`, or one
of your own that `mlp-mixer prepare` made of a folder. With `#FEATURE` at the end, such as
`cifar100#coarse_label`, the label is that feature.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
from etils import epath
from tqdm import tqdm

from mlp_mixer.data import images, prepared_files, vtab
from mlp_mixer.data.class_files import read_classes
from mlp_mixer.data.fingerprint import fingerprint

CLASS_NAMES = "classes.tsv"  # readable names of a folder's classes, which need not differ


class TfdsSource:
    """One split of a prepared data set; see `prepared_files.data_dir` for where it is looked for.

    The label is what the data set's own description names (`supervised_keys`), else its feature
    `label`, else its only feature of classes. A sequence of classes becomes a multi-hot label: for
    imagenet2012_real all zeros where an image has no label.
    """

    def __init__(self, name: str, split: str, channels: int = 3, task: vtab.Task = vtab.AS_IT_IS):
        """`task` says what the label is, where it is not simply one of the data set's features."""
        self.name, self._task, self._channels = f"tfds:{name}", task, channels
        name, _, feature = name.partition("#")
        builder = prepared_files.find_array_record(name)
        import tensorflow_datasets as tfds  # over a second to import, and only this needs it

        features = builder.info.features
        if task != vtab.AS_IT_IS:
            feature = task.feature
        self._image_key = _image_feature(self.name, builder.info)
        self._label_key = feature or _label_feature(self.name, builder.info)
        if self._label_key not in features:
            raise ValueError(
                f"{self.name} has no feature {self._label_key}; it has "
                f"{', '.join(sorted(features))}"
            )
        readable = epath.Path(builder.data_dir) / CLASS_NAMES
        if task.num_classes:
            self.class_names = tuple(map(str, range(task.num_classes)))
        elif (classes := _classes(features[self._label_key])) is None:
            raise ValueError(
                f"{self.name}: the feature {self._label_key} is {features[self._label_key]!r}, "
                "which is neither a class nor a list of classes"
            )
        elif readable.exists() and not feature:
            self.class_names = read_classes(readable)[1]
        else:
            self.class_names = tuple(classes.names)
        self._is_multi_hot = not task.label and isinstance(
            features[self._label_key], tfds.features.Sequence
        )
        self._records, self._files = prepared_files.open_records(self.name, builder, split)
        read = (self._image_key, self._label_key)
        self._parse = _parser(features, [*read, *({"file_name"} & set(features))])
        self._parse_label = _parser(features, [self._label_key])
        self._labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int | np.ndarray]:
        where = f"{self.name}, record {index}"
        try:
            record = self._records[index]
        except RuntimeError as error:
            message = f"{where} in {self._file(index)} cannot be read: {error}"
            if "Corrupted" in str(error):  # a checksum is wrong; else it is worth another try
                raise images.BrokenImage(message) from error
            raise OSError(message) from error
        try:
            example = self._parse(record)
            image = example[self._image_key]
        except MemoryError as error:  # of this machine, not of the record: nothing to skip
            raise OSError(f"there is not enough memory for {where}") from error
        except Exception as error:  # of protobuf, TFDS and NumPy, each with kinds of its own
            raise images.BrokenImage(f"{where} is damaged: {error}") from error
        label = self._label(example, index)
        if isinstance(image, bytes):
            if isinstance(file_name := example.get("file_name"), bytes) and file_name:
                where += f" ({file_name.decode(errors='replace')})"
            image = images.decode(image, self._channels, where)
        else:
            image = _with_channels(image, self._channels, where)
        return image * np.uint8(self._task.scale) if self._task.scale != 1 else image, label

    def _file(self, index: int) -> str:
        firsts = np.cumsum([count for _, count in self._files])
        return self._files[int(np.searchsorted(firsts, index, side="right"))][0]

    def _label(self, example: dict[str, Any], index: int) -> int | np.ndarray:
        label = example[self._label_key]
        if self._task.label:
            return self._task.label(label)
        classes = np.atleast_1d(np.asarray(label, np.int64))
        if not all(0 <= number < len(self.class_names) for number in classes):
            raise ValueError(  # test sets without labels have -1
                f"{self.name}, record {index} has the label {label}, which is none of its "
                f"{len(self.class_names)} classes"
            )
        if not self._is_multi_hot:
            return int(label)
        multi_hot = np.zeros(len(self.class_names), np.uint8)
        multi_hot[classes] = 1
        return multi_hot

    def labels(self) -> np.ndarray:
        if self._labels is None:
            examples = map(self._parse_label, self._read_all())
            labels = [self._label(example, i) for i, example in enumerate(examples)]
            self._labels = np.asarray(labels, np.uint8 if self._is_multi_hot else np.int32)
        return self._labels

    def digest(self) -> str:
        files = [f"{path.rpartition('/')[2]} {examples}" for path, examples in self._files]
        return fingerprint(self.class_names, self._image_key, self._label_key, files)

    def _read_all(self, at_once: int = 16) -> Iterator[bytes]:
        """Every record; a few at once are read in parallel, more would only fill the memory."""
        firsts = range(0, len(self), at_once)
        bar = tqdm(firsts, f"reading labels of {self.name}", disable=None, leave=False, delay=2)
        for first in bar:
            indices = range(first, min(first + at_once, len(self)))
            try:
                records = self._records.__getitems__(indices)
            except RuntimeError as error:
                raise ValueError(
                    f"{self.name}: the labels of the records {indices[0]} to {indices[-1]} cannot "
                    f"be read: {error}"
                ) from error
            yield from records


def _parser(features: Any, keys: list[str]) -> Callable[[bytes], dict[str, Any]]:
    """Reads some features of a record, an encoded image as its bytes, and skips the others."""
    import tensorflow_datasets as tfds

    wanted = tfds.features.FeaturesDict({key: features[key] for key in keys})
    skip = {
        key: tfds.decode.SkipDecoding()
        for key in keys
        if isinstance(features[key], tfds.features.Image)
    }
    return functools.partial(wanted.deserialize_example_np, decoders=skip)


def _image_feature(name: str, info: Any) -> str:
    candidates = [key for key, feature in info.features.items() if _is_image(feature)]
    for key in [*(info.supervised_keys or ())[:1], "image"]:
        if key in candidates:
            return key
    if len(candidates) == 1:
        return candidates[0]
    raise ValueError(
        f"{name} has no single image; its features are {', '.join(sorted(info.features))}"
    )


def _is_image(feature: Any) -> bool:
    """Whether it is an encoded image, or an array [h, w] or [h, w, c] of bytes."""
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.Tensor):
        return feature.np_dtype == np.uint8 and len(feature.shape) in (2, 3)
    return isinstance(feature, tfds.features.Image)


def _label_feature(name: str, info: Any) -> str:
    of_classes = sorted(key for key, f in info.features.items() if _classes(f) is not None)
    for key in [*(info.supervised_keys or ())[1:2], "label"]:
        if key in of_classes:
            return key
    if len(of_classes) == 1:
        return of_classes[0]
    raise ValueError(
        f"{name} has no single label; its features are {', '.join(sorted(info.features))}. "
        + (f"Choose one: {name}#{of_classes[0]}. " if of_classes else "")
        + f"The tasks of VTAB are vtab:TASK with one of {', '.join(vtab.TASKS)}"
    )


def _classes(feature: Any) -> Any | None:
    """The ClassLabel that a feature is, or is a list of; None where it is none."""
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.Sequence):
        feature = feature.feature
    return feature if isinstance(feature, tfds.features.ClassLabel) else None


def _with_channels(image: np.ndarray, channels: int, where: str) -> np.ndarray:
    """uint8 [h, w] or [h, w, 1 or 3] as [h, w, channels]."""
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
