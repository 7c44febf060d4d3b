"""Paths on a disk or in a bucket, and files that appear whole or not at all.

What a user names is a path on a disk, or an address such as gs://BUCKET/FOLDER. Both have the same
methods, those of pathlib: addresses are paths of etils.epath, read and written by gcsfs or s3fs. A
bucket has objects and no folders, so an empty folder does not exist there, nothing can be appended
to, and no folder can be renamed: code that takes both does none of that.
"""

import contextlib
import importlib.util
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

from etils import epath

from mlp_mixer.runtime.bucket_errors import as_oserror

# An address is an epath.Path, which is not a pathlib.Path but has the same methods.
AnyPath: TypeAlias = Path

# The library that reads addresses of a kind.
_LIBRARIES = {"gs": "gcsfs", "s3": "s3fs"}

# By gcsfs even where TensorFlow is installed: one client, whose listings are never stale.
os.environ.setdefault("EPATH_USE_TF", "false")
# A question to the bucket, at each start, that only buckets of a single zone need.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
# Away from Google's machines, looking for credentials takes this many seconds three times.
os.environ.setdefault("GCE_METADATA_TIMEOUT", "1")


def as_path(name: str | os.PathLike) -> AnyPath:
    """Returns the path or address that a user has named; `~` is the home folder.

    Raises:
        ValueError: it is empty, or an address that nothing here can open; says what to install.
    """
    if os.fspath(name) == "":  # pathlib would take it for the working directory
        raise ValueError("a path is empty; is a variable of the shell not set?")
    # pathlib.Path("gs://BUCKET") has lost a slash.
    address = re.match(r"([a-z][a-z0-9]+):/+(.*)", os.fspath(name), re.DOTALL)
    if not address:
        return Path(name).expanduser()
    scheme, rest = address.groups()
    if scheme not in _LIBRARIES:
        raise ValueError(
            f"{name} is neither a path nor an address of a bucket, which begins with "
            f"{' or '.join(f'{known}://' for known in _LIBRARIES)}"
        )
    library = _LIBRARIES[scheme]
    if importlib.util.find_spec(library) is None:
        raise ValueError(f"{name} needs {library}: pip install {library}")
    _without_stale_listings()
    return cast(AnyPath, epath.Path(f"{scheme}://{rest}"))


def _without_stale_listings() -> None:
    """Makes fsspec ask the bucket each time: other processes write there, too."""
    import fsspec  # takes a tenth of a second, which most programs can do without

    for scheme in ("gcs", "s3"):  # what epath calls them
        fsspec.config.conf.setdefault(scheme, {}).setdefault("use_listings_cache", False)


def is_address(path: str | os.PathLike) -> bool:
    """Returns whether a path is in a bucket."""
    return re.match(r"[a-z][a-z0-9]+:/", os.fspath(path)) is not None


def is_on_the_web(path: str | os.PathLike) -> bool:
    """Returns whether a name is an address such as https://HOST or hf://NAME, not of a bucket."""
    return is_address(path) and os.fspath(path).partition(":")[0] not in _LIBRARIES


def absolute(path: AnyPath) -> AnyPath:
    """Returns a path from the root of its disk, or an address as it is."""
    return path if is_address(path) else path.absolute()


def named(path: AnyPath) -> AnyPath:
    """Returns a path whose last part is a name; that of `.` and of `FOLDER/..` is none."""
    return path.resolve() if not is_address(path) and path.name in ("", "..") else path


def file_system(path: AnyPath) -> Any:
    """Returns the fsspec file system that reads and writes an address, or the disk."""
    import fsspec

    return fsspec.filesystem(os.fspath(path).partition("://")[0] if is_address(path) else "file")


def check_no_folder(path: AnyPath) -> None:
    """Raises IsADirectoryError where a folder has the name of a file that is to be written."""
    if not is_address(path) and Path(path).is_dir():
        raise IsADirectoryError(
            f"{path} is a folder; give the name of a file to write, such as {path}/NAME"
        )


@contextlib.contextmanager
def replacing(path: AnyPath) -> Iterator[Path]:
    """Gives a new file on a disk, which takes the place of `path` at the end, if all went well.

    Where `path` is a symbolic link, what it points to is replaced, and the link stays. The folder
    is made where there is none.

    Raises:
        IsADirectoryError: `path` is a folder.
    """
    check_no_folder(path)  # by the name that the user gave, and before the file is filled
    if is_address(path):
        with tempfile.TemporaryDirectory(prefix="mlp_mixer_") as folder:
            temporary = Path(folder, path.name)
            yield temporary
            with as_oserror(path):
                file_system(path).put_file(os.fspath(temporary), os.fspath(path))
        return
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: AnyPath, fill: Callable[[BinaryIO], object]) -> None:
    """Calls `fill` with a new file, which then takes the place of `path`; see `replacing`."""
    with replacing(path) as temporary, temporary.open("w+b") as file:
        fill(file)


def write_bytes(path: AnyPath, content: bytes) -> None:
    """Writes a whole file, as `write_whole` does."""
    write_whole(path, lambda file: file.write(content))


def write_text(path: AnyPath, text: str) -> None:
    """Writes a whole text file, as `write_whole` does."""
    write_bytes(path, text.encode())


def temporary_beside(path: Path) -> Path:
    """Returns a name in the folder of `path` that no other writer has, in any process."""
    return path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.tmp")


@contextlib.contextmanager
def local(path: AnyPath) -> Iterator[Path]:
    """Gives a file on a disk: `path` itself, or a copy of an object while it is entered."""
    if not is_address(path):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="mlp_mixer_") as folder:
        copy = Path(folder, path.name)
        with as_oserror(path):
            file_system(path).get_file(os.fspath(path), os.fspath(copy))
        yield copy


def upload_tree(folder: str | Path, to: AnyPath) -> None:
    """Copies all files below a folder on a disk to an address, over what may be there."""
    for name in files(Path(folder)):
        file_system(to).put_file(os.fspath(Path(folder, name)), os.fspath(to / name))


def size(path: AnyPath) -> int:
    """Returns the size of a file or object in bytes."""
    found: Any = path.stat()  # epath has a type of its own for it
    return found.length if is_address(path) else found.st_size


def files(folder: AnyPath) -> list[str]:
    """Returns the names of all files below a folder, with slashes, in the order of their names."""
    if is_address(folder):
        found = file_system(folder).find(os.fspath(folder))
        top = len(os.fspath(folder).partition("://")[2].rstrip("/")) + 1
        return sorted(name[top:] for name in found if not name.endswith("/"))
    paths = (path for path in Path(folder).rglob("*") if not path.is_dir())
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def names(folder: AnyPath) -> list[str]:
    """Returns the names of what lies in a folder; none where there is no such folder."""
    try:
        return sorted(path.name for path in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def remove_tree(folder: AnyPath) -> None:
    """Deletes a folder and everything below it; does nothing where there is none."""
    if not is_address(folder):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)
        return
    with contextlib.suppress(FileNotFoundError):
        file_system(folder).rm(os.fspath(folder), recursive=True)


def in_words(error: Exception) -> str:
    """Returns an error's message; for system errors, FILE: REASON without the error number."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)
