"""Where the images and labels of WebDataset's tar files lie, so that they can be read in any order.

A tar has no table of contents: every header has to be read once. What was found is kept in a file
of this machine's cache, which counts as long as no shard changes its size or time.
"""

import contextlib
import json
import logging
import os
import tarfile
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from mlp_mixer.data.bucket_copy import place_for
from mlp_mixer.data.fingerprint import fingerprint
from mlp_mixer.data.listing import IMAGE_SUFFIXES, reason_in_tar

log = logging.getLogger(__name__)

VERSION = 1  # of the file in the cache
LARGEST_LABEL = 1 << 20  # most bytes of a .cls or .json member
BLOCK, END = 512, 1 << 16  # bytes of zeros with which a tar ends: at least, and as far as read


class Index(NamedTuple):
    """The images of some tar files, in the order of the files and of their members.

    Attributes:
        shard: number of the file, int32 [n].
        name: name of the image's member, bytes [n].
        offset: where its content begins in the file, int64 [n].
        size: bytes of its content, int64 [n].
        label: the label as it is written, bytes [n]: a number or a name.
        left_out: how many members are not read because they belong to no image.
    """

    shard: np.ndarray
    name: np.ndarray
    offset: np.ndarray
    size: np.ndarray
    label: np.ndarray
    left_out: int


def of(shards: Sequence[Path], choice: str, name: str) -> Index:
    """Returns the index of some tar files, from the cache if they have not changed.

    Args:
        shards: the files.
        choice: suffix of the member or name of the JSON field that has the label; "" for .cls, or
            else the field label.
        name: name of the data set, for messages.

    Raises:
        ValueError: a file is damaged or compressed, or an image has no label; says what to do.
    """
    paths = [os.path.abspath(shard) for shard in shards]
    with ThreadPoolExecutor(16) as pool:
        stats = list(pool.map(os.stat, paths))
    state = fingerprint(str(VERSION), np.asarray([(s.st_size, s.st_mtime_ns) for s in stats]))
    file = place_for(fingerprint("tar index", choice, paths)).with_name("index.npz")
    if (found := _read(file, state)) is not None:
        log.info("%s: using the index in %s", name, file)
        return found
    with ThreadPoolExecutor(16) as pool:
        listed = pool.map(lambda shard: _list(shard, choice), shards)
        bar = tqdm(listed, f"indexing {name}", len(shards), disable=None, leave=False, delay=2)
        parts = list(bar)
    rows = [
        (number, *row) for number, (shard_rows, _) in enumerate(parts) for row in shard_rows
    ]  # fmt: skip
    shard, names, offset, size, label = zip(*rows, strict=True) if rows else ((),) * 5
    index = Index(
        np.asarray(shard, np.int32),
        np.asarray(names, np.bytes_),
        np.asarray(offset, np.int64),
        np.asarray(size, np.int64),
        np.asarray(label, np.bytes_),
        sum(left_out for _, left_out in parts),
    )
    _write(file, state, index)
    return index


def _read(file: Path, state: str) -> Index | None:
    try:
        with np.load(file, allow_pickle=False) as kept:
            if str(kept["state"]) != state:
                return None
            fields = {field: kept[field] for field in Index._fields}
            return Index(**fields | {"left_out": int(fields["left_out"])})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # there is none, or it is damaged


def _write(file: Path, state: str, index: Index) -> None:
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as opened:
            np.savez(opened, state=np.asarray(state), **index._asdict())
        part.replace(file)
    except OSError as error:  # it only takes longer the next time
        log.warning("the index cannot be kept in %s: %s", file, error)
        with contextlib.suppress(OSError):
            part.unlink()


def _list(path: Path, choice: str) -> tuple[list[tuple[bytes, int, int, bytes]], int]:
    """Lists name, offset, size and label of each image in a tar, and counts what else it has."""
    images: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, bytes] = {}
    others = 0
    try:
        with tarfile.open(path, "r:") as tar, path.open("rb") as file:
            end = path.stat().st_size
            for member in tar:
                reason = reason_in_tar(os.fsencode(member.name))
                if not member.isfile() or reason == "":
                    continue
                if member.offset_data + member.size > end:
                    raise ValueError(f"{path} ends early: it was cut short")
                key, suffix = _key_and_suffix(member.name)
                if reason is None and f".{suffix}" in IMAGE_SUFFIXES:
                    if key in images:
                        raise ValueError(
                            f"{path} has two images {images[key].name} and {member.name} of the "
                            "same example; names have to differ before their first dot"
                        )
                    images[key] = member
                elif suffix in (choice or "cls", "json"):
                    label = _label(path, member, _content(file, member), suffix, choice)
                    if label is not None and (suffix != "json" or key not in labels):
                        labels[key] = label
                else:
                    others += 1
            file.seek(tar.offset)
            if any(tail := file.read(END)) or len(tail) < BLOCK:
                raise ValueError(
                    f"{path} is damaged or cut short at byte {tar.offset}, or several tars in one "
                    "file: after its last member a tar has only zeros"
                )
    except tarfile.TarError as error:
        raise ValueError(f"{path} is damaged, or not an uncompressed tar: {error}") from error
    if unlabelled := [key for key in images if key not in labels]:
        key = unlabelled[0]
        raise ValueError(
            f"{path}: {len(unlabelled)} of {len(images)} images have no label. The first is "
            f"{images[key].name}, which needs {key}.{choice or 'cls'}, or {key}.json with the "
            f"field {choice or 'label'!r}; wds:PATTERN#NAME reads KEY.NAME, or the field NAME"
        )
    rows = [
        (os.fsencode(member.name), member.offset_data, member.size, labels[key])
        for key, member in images.items()
    ]
    return rows, others + len(labels.keys() - images.keys())


def _key_and_suffix(name: str) -> tuple[str, str]:
    """Cuts a member's name at the first dot of its last part, as WebDataset does."""
    folder, slash, base = name.rpartition("/")
    key, _, suffix = base.partition(".")
    return f"{folder}{slash}{key}", suffix.lower()


def _content(file: Any, member: tarfile.TarInfo) -> bytes:
    if member.size > LARGEST_LABEL:
        raise ValueError(
            f"{file.name}: {member.name} has {member.size} bytes, too many for a label"
        )
    return os.pread(file.fileno(), member.size, member.offset_data)


def _label(
    path: Path, member: tarfile.TarInfo, content: bytes, suffix: str, choice: str
) -> bytes | None:
    """Returns the label in a member, as it is written; None if it has none."""
    if suffix != "json" or choice == "json":
        value: Any = content.decode(errors="replace").strip()
    else:
        try:
            fields = json.loads(content)
        except ValueError as error:  # also of text that is not UTF-8
            raise ValueError(f"{path}: {member.name} is not JSON: {error}") from error
        value = fields.get(choice or "label") if isinstance(fields, dict) else None
        if value is None:
            return None
    if type(value) not in (int, str) or not str(value) or "\0" in str(value):
        raise ValueError(
            f"{path}: {member.name} has the label {value!r}; it has to be the number or the name "
            "of a class"
        )
    return str(value).encode()
