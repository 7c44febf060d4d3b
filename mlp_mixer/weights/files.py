"""Sources of weights: files, web addresses, short names, the Hugging Face hub and training runs.

`open_weights` finds out which of these a source is, and gives all of them the same interface.
"""

import contextlib
import dataclasses
import hashlib
import urllib.parse
from collections.abc import Callable, Iterator
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from mlp_mixer.models.architectures import ARCHITECTURES
from mlp_mixer.runs import checkpoints
from mlp_mixer.runs.folder import (
    AVERAGE_FILE,
    CLASSES_FILE,
    CONFIG_FILE,
    WEIGHTS_FILE,
    read_config,
    workdir_of,
)
from mlp_mixer.runtime.storage import AnyPath, absolute, as_path, is_address, local
from mlp_mixer.weights import (
    download,
    hub,
    included,
    npz,
    of_runs,
    pickles,
    released,
    safetensors,
    timm_config,
)
from mlp_mixer.weights.npz import Arrays

# First bytes of files often mistaken for weights. A torch pickle in a zip archive is found later.
_BEGINNINGS = (
    (b"\x93NUMPY", "a single .npy array"),
    (b"\x89HDF", "an HDF5 file, such as Keras writes"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"<", "a web page (HTML or XML)"),
    (b"version https://git-lfs", "a Git LFS pointer; fetch the file itself with git lfs pull"),
)


@dataclasses.dataclass(frozen=True)
class OpenWeights:
    """Weights that are open for reading.

    Attributes:
        name: as the user wrote it.
        where: where they are: the path of a file, or a checkpoint's folder.
        format: "npz", "safetensors" or "orbax".
        arrays: by name, arrays with the right shapes and dtypes, whose numbers `read` gives.
        read: returns the array of a name.
        settings: what the arrays cannot say; see `metadata`. For weights that are known by their
            name, class_names may be the name of a list, "imagenet1k" or "imagenet21k".
        expected: what a released file holds; None for other weights.
        config: the config of the run that made them; empty for other weights.
    """

    name: str
    where: AnyPath
    format: str
    arrays: Arrays
    read: Callable[[str], np.ndarray]
    settings: dict[str, Any]
    expected: released.Released | None = None
    config: dict[str, Any] = dataclasses.field(default_factory=dict)

    def sha256(self) -> str:
        """Computes the digest of the file, or of a checkpoint's arrays with their names."""
        digest = hashlib.sha256()
        if self.where.is_dir():
            for name in sorted(self.arrays):
                digest.update(name.encode())
                digest.update(np.ascontiguousarray(self.read(name)).tobytes())
        else:
            with self.where.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256")
        return digest.hexdigest()

    def check_not_overwritten(self, path: AnyPath) -> None:
        """Raises ValueError if a file that is to be written is one that the weights are read from.

        A run's config and class names count as well, and all files of a checkpoint.
        """
        beside = workdir_of(self.where) or self.where.parent
        sources = (self.where, beside / CONFIG_FILE, beside / CLASSES_FILE)
        within = self.where.is_dir() and absolute(self.where) in absolute(path).parents
        if within or any(_are_one(path, source) for source in sources):
            raise ValueError(f"{path} would overwrite its source; choose another name")


@contextlib.contextmanager
def open_weights(source: str | PathLike) -> Iterator[OpenWeights]:
    """Opens weights from any source that `load` accepts.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there are no weights, or they are damaged; names file and array.
        OSError: a download failed.
    """
    name = fspath(source)
    path, expected = _locate(name)
    config: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    workdir = workdir_of(path)
    if workdir and read_config(workdir).get("architecture", "mixer") not in tuple(ARCHITECTURES):
        workdir = None  # the config.json was written by another tool
    if folder := path if path.is_dir() else workdir:
        if path.name == AVERAGE_FILE:
            config = read_config(folder)
        else:
            path, config = of_runs.find(folder)
        settings = of_runs.settings(config, workdir) if workdir else {}
        if path.is_dir():
            tree = checkpoints.restore_params(path)
            arrays = traverse_util.flatten_dict(tree, sep="/")
            read = arrays.__getitem__
            yield OpenWeights(name, path, "orbax", arrays, read, settings, config=config)
            return
    with local(path) as file, contextlib.closing(open_file(file)) as reader:
        if name in released.RELEASED:
            settings = {"class_names": released.classes(name)}
        elif not workdir:
            settings = _from_elsewhere(name, file, reader)
        yield OpenWeights(
            name,
            path,
            reader.format,
            reader.arrays,
            reader.read,
            settings | reader.settings,
            expected,
            config,
        )


def _from_elsewhere(name: str, path: Path, reader: npz.Reader | safetensors.Reader) -> dict:
    """Returns the settings known of a file that lies in no workdir of this project."""
    if not reader.settings:
        return timm_config.settings(name, path) if reader.format == "safetensors" else {}
    # Files of version e108a84 say neither classes nor pixel range, but what they were made from.
    origin = str((reader.settings.get("history") or [{}])[0].get("source", ""))
    if origin in released.RELEASED:
        return {"class_names": released.classes(origin)}
    return {"pixel_range": [0.0, 1.0]} if timm_config.tag_of(origin).startswith("miil_") else {}


def open_file(path: Path) -> npz.Reader | safetensors.Reader:
    """Opens a weight file, whose format is told by its first bytes and not by its name.

    Raises:
        ValueError: the file is neither .npz nor .safetensors; names what it looks like.
    """
    with path.open("rb") as file:
        begin = file.read(64)
    if begin[:2] == b"PK":
        return npz.Reader(path)
    if begin[8:9] == b"{":
        return safetensors.Reader(path)
    if begin[:1] == b"\x80" or path.suffix in pickles.SUFFIXES:
        raise ValueError(pickles.how_to_convert(path))
    like = [f", like {what}" for start, what in _BEGINNINGS if begin.lstrip().startswith(start)]
    found = f"begins with {begin[:32]!r}{''.join(like)}" if begin else "is empty"
    raise ValueError(f"{path} is not an .npz or .safetensors file: it {found}")


def is_here(source: str | PathLike) -> bool:
    """Returns whether weights can be read without downloading them first."""
    name = fspath(source)
    if _is_read_in_place(name):
        return as_path(name).exists()
    if name in included.INCLUDED or Path(name).expanduser().exists():
        return True
    if name.startswith(hub.PREFIX):
        return hub.is_cached(name)
    url = released.address(name) if name in released.RELEASED else name
    return url.startswith(("https://", "http://", "gs://")) and download.is_cached(url)


def _locate(name: str) -> tuple[AnyPath, released.Released | None]:
    """Returns the file or folder of a source, downloaded if need be."""
    if _is_read_in_place(name):
        path = as_path(name)
        if not path.exists():
            raise FileNotFoundError(f"there is nothing at {name}")
        return _in_folder(path), None
    path = Path(name).expanduser()
    if path.is_file() or path.is_dir():
        return _in_folder(path), None
    if path.exists():
        raise ValueError(f"{name} is neither a file nor a folder")
    if name in included.INCLUDED:
        return included.path_of(name), None
    if name in released.RELEASED:
        expected = released.RELEASED[name]
        url = released.address(name)
        return download.fetch(url, _check, expected.size, released.SIZE_TOLERANCE), expected
    if name.startswith(("https://", "http://", "gs://")):
        remote = Path(urllib.parse.urlsplit(name).path)
        if remote.suffix in pickles.SUFFIXES:
            raise ValueError(pickles.how_to_convert(Path(remote.name)))
        return download.fetch(name, _check), None
    if name.startswith(hub.PREFIX):
        return hub.fetch(name), None
    names = ", ".join([*released.RELEASED, *included.INCLUDED])
    raise FileNotFoundError(f"no file {name}; released weights have the names {names}")


def _in_folder(path: AnyPath) -> AnyPath:
    """Returns the weights in a folder like a repository of the hub; else the path as it is."""
    weights = path / hub.WEIGHTS_FILE
    return weights if path.is_dir() and not workdir_of(path) and weights.exists() else path


def _is_read_in_place(name: str) -> bool:
    """Returns whether an address is read where it is, and not from the cache of downloads.

    So are workdirs, their model.npz and their checkpoints: unlike a published file, a run changes.
    A published file has a suffix of weights; other dots belong to names such as lr_0.003.
    """
    if not is_address(name) or name.startswith(("http:", "https:", hub.PREFIX)):
        return False
    last = name.rstrip("/").rpartition("/")[2]
    is_file = Path(last).suffix.lower() in (".npz", ".safetensors", *pickles.SUFFIXES)
    return name.startswith("s3:") or last == WEIGHTS_FILE or not is_file


def _are_one(path: AnyPath, other: AnyPath) -> bool:
    if is_address(path) or is_address(other):
        return path == other
    return path.exists() and other.exists() and Path(path).samefile(other)


def _check(path: Path) -> None:
    """Reads every array of a file, which verifies the checksums, and keeps none."""
    with contextlib.closing(open_file(path)) as reader:
        for name in reader.arrays:
            reader.read(name)
