"""Packs a source into ArrayRecord: a few large files in place of millions of images."""

import hashlib
import io
import json
import logging
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from mlp_mixer.data import hub_files, splits, tar_source
from mlp_mixer.data.bucket_copy import on_disk
from mlp_mixer.data.fingerprint import fingerprint
from mlp_mixer.data.folders import FolderSource
from mlp_mixer.data.hub_source import HubSource
from mlp_mixer.data.prepare import shards
from mlp_mixer.data.prepared_files import check_tfds
from mlp_mixer.data.prepared_source import CLASS_NAMES

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "validation", "test")  # of a folder
SHARD = 8192  # most images per file; about a gigabyte of ImageNet
STATE = ".state"  # suffix of the file that keeps the `_state` of a written file's images
AT_ONCE = 256  # images to read ahead of writing


class Encoded(Protocol):
    """A `sources.Source` whose images are encoded files."""

    name: str
    class_names: tuple[str, ...]
    folders: tuple[str, ...]  # names of the classes, all different

    def __len__(self) -> int: ...

    def labels(self) -> np.ndarray: ...

    def digest(self) -> str: ...

    def read(self, index: int) -> bytes:
        """Reads the encoded image of one example."""

    def file(self, index: int) -> Path:
        """Returns the file on the disk that contains one example."""

    def file_name(self, index: int) -> bytes:
        """Returns the name of an image's own file, or nothing."""


def open_splits(spec: str) -> dict[str, Encoded]:
    """Opens every split of folder:PATH, wds:PATTERN or hf:NAME that has labels.

    Raises:
        ValueError: the data is unusable, or has no such split.
        FileNotFoundError: the folder does not exist.
    """
    kind, _, argument = spec.partition(":")
    place, _ = splits.cut_choice(argument)
    if kind == "folder":
        root = on_disk(argument)
        found = {
            split: FolderSource(argument, split) for split in SPLITS if (root / split).is_dir()
        }
        if not found:
            raise ValueError(f"{argument} has none of the folders {', '.join(SPLITS)}")
        return dict(found)
    if kind == "wds":
        names = tar_source.find_shards(place)
        return {split: tar_source.TarSource(argument, split) for split in names}
    opened: dict[str, Encoded] = {}
    unlabelled = None
    for split in hub_files.load(place):
        source = HubSource(argument, split)
        try:
            source.labels()
        except ValueError as error:  # a test set's labels are often kept back
            log.warning("the split %s is left out: %s", split, error)
            unlabelled = error
        else:
            opened[split] = source
    if unlabelled and not opened:
        raise unlabelled
    return opened


def pack(sources: Mapping[str, Encoded], name: str, target: Path) -> None:
    """Writes the splits of a data set as one that `tfds:NAME` reads.

    Encoded images are copied unchanged, in a fixed shuffled order, so that any part of a split has
    a mix of classes. Files that are not images are copied as well: reading them is an error later.

    Args:
        sources: the splits; see `open_splits`.
        name: name of the new data set.
        target: the new folder of the data set's version, DIR/NAME/1.0.0.

    Raises:
        ValueError: an image is not there, the splits have different classes, or TFDS cannot be
            imported.
        OSError: a file cannot be read, or the disk is full.
    """
    check_tfds()
    import tensorflow_datasets as tfds

    first = next(iter(sources.values()))
    for split, source in sources.items():
        if (source.folders, source.class_names) != (first.folders, first.class_names):
            raise ValueError(
                f"{source.name}: the split {split} has {len(source.class_names)} classes, others "
                f"have {len(first.class_names)}; list all classes in classes.txt"
            )
    label = tfds.features.ClassLabel(names=first.folders)
    is_multi_hot = first.labels().ndim > 1
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.Sequence(label) if is_multi_hot else label,
            "file_name": tfds.features.Text(),
        }
    )
    folder = _folder_for(target, sources)
    total = sum(map(len, sources.values()))
    infos = []
    with tqdm(total=total, desc=f"packing {name}", unit=" images", disable=None) as bar:
        for split, source in sources.items():
            infos.append(_write_split(folder, name, split, source, features, bar))
    rows = zip(first.folders, first.class_names, strict=True)
    (folder / CLASS_NAMES).write_text("".join(f"{row[0]}\t{row[1]}\n" for row in rows))
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=features,
        split_infos=infos,
        version=target.name,
        check_data=False,  # needs TensorFlow
        supervised_keys=("image", "label"),
        description=f"The images of {first.name}, packed by mlp_mixer.",
    )
    (folder / "listing.json").unlink()
    for noted in folder.glob(f"*{STATE}"):
        noted.unlink()
    shards.finish(target)


def _folder_for(target: Path, sources: Mapping[str, Encoded]) -> Path:
    """Returns the folder to write into: an incomplete one, if the images are still the same."""
    folder = shards.incomplete(target)
    listing = {
        split: fingerprint(source.folders, source.digest()) for split, source in sources.items()
    }
    begun = folder / "listing.json"
    if begun.exists() and json.loads(begun.read_text()) != listing:
        log.info("the data has changed since the last time: starting again")
        shutil.rmtree(folder)
        folder = shards.incomplete(target)
    begun.write_text(json.dumps(listing))
    return folder


def _write_split(
    folder: Path, name: str, split: str, source: Encoded, features: Any, bar: tqdm
) -> Any:
    import tensorflow_datasets as tfds

    order = np.random.RandomState(0).permutation(len(source))
    parts = np.array_split(order, math.ceil(len(source) / SHARD))
    template = tfds.core.ShardedFileTemplate(
        dataset_name=name, split=split, filetype_suffix="array_record", data_dir=folder
    )
    paths = [Path(path) for path in template.sharded_filepaths(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        state, noted = _state(source, part), path.with_name(f"{path.name}{STATE}")
        if shards.is_whole(path, len(part)) and noted.exists() and noted.read_text() == state:
            bar.update(len(part))
        else:
            shards.write(path, _records(source, part, features, bar), len(part))
            noted.write_text(state)
    return tfds.core.SplitInfo(
        name=split,
        shard_lengths=list(map(len, parts)),
        num_bytes=sum(path.stat().st_size for path in paths),
        filename_template=template,
    )


def _state(source: Encoded, indices: np.ndarray) -> str:
    """Returns a digest of the files' sizes and times, which changes if an image is replaced."""
    files = sorted({source.file(int(index)) for index in indices})
    with ThreadPoolExecutor(16) as pool:
        stats = [(stat.st_size, stat.st_mtime_ns) for stat in pool.map(os.stat, files)]
    return hashlib.sha256(repr(stats).encode()).hexdigest()


def _records(source: Encoded, indices: np.ndarray, features: Any, bar: tqdm) -> Iterator[bytes]:
    labels = source.labels()
    with ThreadPoolExecutor(16) as pool:  # most of the time is spent waiting for the disk
        for first in range(0, len(indices), AT_ONCE):
            some = [int(index) for index in indices[first : first + AT_ONCE]]
            for index, data in zip(some, pool.map(source.read, some), strict=True):
                example = {
                    "image": io.BytesIO(data),
                    "label": _numbers(labels[index]),
                    "file_name": source.file_name(index),
                }
                bar.update()
                yield features.serialize_example(features.encode_example(example))


def _numbers(label: np.ndarray) -> int | list[int]:
    return np.flatnonzero(label).tolist() if label.ndim else int(label)
