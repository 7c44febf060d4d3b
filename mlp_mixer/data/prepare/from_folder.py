"""Packs a folder of images into ArrayRecord: a few large files instead of millions of images."""

import hashlib
import io
import json
import logging
import math
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mlp_mixer.data.folders import FolderSource
from mlp_mixer.data.prepare import shards
from mlp_mixer.data.prepared_files import check_tfds
from mlp_mixer.data.prepared_source import CLASS_NAMES

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "validation", "test")
SHARD = 8192  # most images per file; about a gigabyte of ImageNet
STATE = ".state"  # suffix of the file that keeps the `_state` of a written file's images
AT_ONCE = 256  # images to read ahead of writing


def pack(path: str, name: str, target: Path) -> None:
    """Writes the splits of a folder as a data set that `tfds:NAME` reads.

    Image files are copied unchanged, in a fixed shuffled order, so that any part of a split has a
    mix of classes. Files that are not images are copied as well: reading them is an error later.

    Args:
        path: a folder that `folder:PATH` reads.
        name: name of the new data set.
        target: the new folder of the data set's version, DIR/NAME/1.0.0.

    Raises:
        ValueError: the folder is not usable, or TFDS cannot be imported.
        OSError: a file cannot be read, or the disk is full.
    """
    check_tfds()
    import tensorflow_datasets as tfds

    sources = {
        split: FolderSource(path, split)
        for split in SPLITS
        if (Path(path).expanduser() / split).is_dir()
    }
    if not sources:
        raise ValueError(f"{path} has none of the folders {', '.join(SPLITS)}")
    first = next(iter(sources.values()))
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=first.folders),
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
        description=f"The images of a folder, packed by mlp_mixer from {path}.",
    )
    (folder / "listing.json").unlink()
    for noted in folder.glob(f"*{STATE}"):
        noted.unlink()
    shards.finish(target)


def _folder_for(target: Path, sources: dict[str, FolderSource]) -> Path:
    """Returns the folder to write into: an incomplete one, if the images are still the same."""
    folder = shards.incomplete(target)
    listing = {split: _digest(source) for split, source in sources.items()}
    begun = folder / "listing.json"
    if begun.exists() and json.loads(begun.read_text()) != listing:
        log.info("the folder has changed since the last time: starting again")
        shutil.rmtree(folder)
        folder = shards.incomplete(target)
    begun.write_text(json.dumps(listing))
    return folder


def _digest(source: FolderSource) -> str:
    """Returns a digest of all file names and labels."""
    digest = hashlib.sha256("\n".join((*source.folders, *source.class_names)).encode())
    for folder, names, labels in source.groups:
        digest.update(f"{folder} {len(names)} {names.dtype}".encode() + names.tobytes())
        digest.update(labels.tobytes())
    return digest.hexdigest()


def _write_split(
    folder: Path, name: str, split: str, source: FolderSource, features: Any, bar: tqdm
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


def _state(source: FolderSource, indices: np.ndarray) -> str:
    """Returns a digest of the files' sizes and times, which changes if an image is replaced."""
    files = sorted({source.file(int(index)) for index in indices})
    with ThreadPoolExecutor(16) as pool:
        stats = [(stat.st_size, stat.st_mtime_ns) for stat in pool.map(os.stat, files)]
    return hashlib.sha256(repr(stats).encode()).hexdigest()


def _records(
    source: FolderSource, indices: np.ndarray, features: Any, bar: tqdm
) -> Iterator[bytes]:
    labels = source.labels()
    with ThreadPoolExecutor(16) as pool:  # most of the time is spent waiting for the disk
        for first in range(0, len(indices), AT_ONCE):
            some = [int(index) for index in indices[first : first + AT_ONCE]]
            for index, data in zip(some, pool.map(source.read, some), strict=True):
                example = {
                    "image": io.BytesIO(data),
                    "label": int(labels[index]),
                    "file_name": os.fsencode(source.path(index).name),
                }
                bar.update()
                yield features.serialize_example(features.encode_example(example))
