"""Data sets in a bucket, copied to this machine's disk before they are read.

Random access to single objects takes tens of milliseconds each; a copy is read at the speed of the
disk, in every epoch. For data that the disk cannot hold, docs/reference/data.md says what to mount.
"""

import hashlib
import logging
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import filelock
from tqdm import tqdm

log = logging.getLogger(__name__)

CACHE_VARIABLE = "MLP_MIXER_CACHE"  # as weights.download has it
COMPLETE = ".complete"  # beside a copy: the digest of what the bucket had
AT_ONCE = 32  # objects to copy at a time


def is_address(path: str | os.PathLike) -> bool:
    """Returns whether a path is in a bucket: gs://BUCKET/FOLDER or s3://BUCKET/FOLDER."""
    return re.match(r"(gs|s3):/", os.fspath(path)) is not None


def on_disk(path: str | os.PathLike) -> Path:
    """Returns a folder on a disk: `path` itself, or the copy of a folder in a bucket.

    What is missing of the copy, or has changed in the bucket, is copied first. A copy that was
    interrupted continues.

    Raises:
        FileNotFoundError: there is nothing at the address.
        ValueError: the library for such addresses is not installed, or the disk is too small.
        OSError: an object cannot be read.
    """
    if not is_address(path):
        return Path(path).expanduser()
    address = re.sub(r":/+", "://", os.fspath(path)).rstrip("/")
    files = _list(address)
    target = place_for(address)
    target.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(target.with_name(f"{target.name}.lock")):  # of other processes here
        _update(target, address, files)
    return target


def _update(target: Path, address: str, files: dict[str, tuple[int, str]]) -> None:
    """Makes a copy what the bucket has now."""
    digest = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()
    complete = target.with_name(f"{target.name}{COMPLETE}")
    is_known = complete.exists() and complete.read_text() == digest
    # The marker lies beside the folder: files may be gone, of a cache that somebody has cleaned.
    if is_known and all(_is_there(target / name, size) for name, (size, _) in files.items()):
        log.info("%s: using the copy in %s (delete it to copy again)", address, target)
        return
    complete.unlink(missing_ok=True)
    _remove_others(target, files)
    todo = {name: size for name, (size, _) in files.items() if not _is_there(target / name, size)}
    _check_space(target, sum(todo.values()), address)
    _copy(address, target, todo)
    complete.write_text(digest)


def copy_to(path: Path, address: str) -> None:
    """Copies a file on a disk to an address."""
    _file_system(address).put_file(os.fspath(path), address)


def _file_system(address: str) -> Any:
    import fsspec  # takes a tenth of a second, which most programs can do without

    try:
        return fsspec.filesystem(address.partition("://")[0], use_listings_cache=False)
    except ImportError as error:
        library = "gcsfs" if address.startswith("gs:") else "s3fs"
        raise ValueError(f"{address} needs {library}: pip install {library} ({error})") from error


def _list(address: str) -> dict[str, tuple[int, str]]:
    """Returns size and version of every object below an address, by its name from there."""
    found = _file_system(address).find(address, detail=True)
    top = len(address.partition("://")[2]) + 1
    files = {
        path[top:]: (int(entry["size"]), str(entry.get("etag") or entry.get("ETag")))
        for path, entry in found.items()
        if not path.endswith("/")
    }
    if not files:
        raise FileNotFoundError(f"there is nothing in {address}")
    if unsafe := [name for name in files if ".." in name.split("/") or name.startswith("/")]:
        raise ValueError(f"{address}/{unsafe[0]} cannot be the name of a file on a disk")
    return files


def place_for(address: str) -> Path:
    """Returns the folder of this machine's cache that belongs to an address."""
    cache = Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/mlp_mixer").expanduser()
    digest = hashlib.sha256(address.encode()).hexdigest()[:16]
    return cache / "data" / digest / address.rpartition("/")[2]


def _is_there(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _remove_others(target: Path, files: dict[str, tuple[int, str]]) -> None:
    """Deletes what the bucket no longer has, and what may be an older version of what it has."""
    versions = target.with_name(f"{target.name}.versions")
    now = {name: version for name, (_, version) in files.items()}
    lines = versions.read_text().splitlines() if versions.exists() else []
    before = dict(line.split("\t") for line in lines)
    for path in target.rglob("*"):
        name = path.relative_to(target).as_posix()
        if path.is_file() and (name not in now or before.get(name) != now[name]):
            path.unlink()
    versions.write_text("".join(f"{name}\t{version}\n" for name, version in now.items()))


def _check_space(target: Path, need: int, address: str) -> None:
    free = shutil.disk_usage(target).free
    if need > free:
        raise ValueError(
            f"{address} has {need / 2**30:.1f} GiB to copy, and the disk of {target} has "
            f"{free / 2**30:.1f} GiB left: set {CACHE_VARIABLE} to a larger disk, or mount the "
            "bucket or a disk with the data (docs/reference/data.md)"
        )


def _fetch(file_system: Any, address: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    file_system.get_file(address, os.fspath(part))
    part.replace(path)


def _copy(address: str, target: Path, todo: dict[str, int]) -> None:
    file_system = _file_system(address)

    def copy(name: str) -> int:
        _fetch(file_system, f"{address}/{name}", target / name)
        return todo[name]

    with (
        ThreadPoolExecutor(AT_ONCE) as pool,
        tqdm(desc=f"copying {address}", total=sum(todo.values()), unit="B", unit_scale=True,
             disable=None) as bar,
    ):  # fmt: skip
        for size in pool.map(copy, todo):
            bar.update(size)
