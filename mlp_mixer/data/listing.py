"""Lists the images in a folder or a tar, and what else is there and not read."""

import functools
import logging
import os
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

log = logging.getLogger(__name__)


IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif",
    ".jp2", ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip
_SUFFIXES = tuple(map(str.encode, IMAGE_SUFFIXES))
# Left behind by unpackers, network disks and file systems. Such files are not reported.
SYSTEM_FOLDERS = (b"__MACOSX", b"@eaDir", b"#recycle", b"lost+found", b"$RECYCLE.BIN",
                  b"System Volume Information")  # fmt: skip
LOOP = "links to a folder that they lie in"
SYSTEM_FILES = (b".DS_Store", b"Thumbs.db", b"desktop.ini")


class Listing(NamedTuple):
    """The images in a folder and its subfolders, or in a tar.

    Attributes:
        names: names relative to the folder, sorted, bytes [n]. For a tar, a structured array [n]
            with the fields name, offset and size.
        left_out: counts of what is not read by kind, such as ".heic" or "hidden files".
    """

    names: np.ndarray
    left_out: Counter[str]


def list_images(folder: Path) -> Listing:
    """Lists the images in a folder and its subfolders, following links, or in FOLDER.tar."""
    if not folder.is_dir():
        return _list_tar(Path(f"{folder}.tar"))
    root, names = os.fsencode(folder), []
    left_out: Counter[str] = Counter()
    todo: list[tuple[bytes, tuple[bytes, ...]]] = [(b"", ())]  # subfolder, and the links to it
    while todo:
        inside, way = todo.pop()
        for entry, kind in _look(os.path.join(root, inside), left_out):
            if kind == "image":
                names.append(inside + entry.name)
            elif kind == "file":
                left_out[_suffix(entry.name)] += 1
            elif (further := _follow(entry, way)) is None:
                left_out[LOOP] += 1
            else:
                todo.append((inside + entry.name + b"/", further))
    return Listing(np.sort(np.asarray(names, np.bytes_)), left_out)


def class_folders(folder: Path) -> tuple[list[str], Counter]:
    """Lists the class folders in a folder, among them CLASS.tar files, and counts everything else.

    Returns:
        The names of the classes, in alphabetical order, or in numerical order if all are numbers;
        and counts of what is not read, by kind.
    """
    folders, tars = set(), set()
    left_out: Counter[str] = Counter()
    for entry, kind in _look(os.fsencode(folder), left_out):
        name = os.fsdecode(entry.name)
        if kind == "folder" and _follow(entry, ()) is not None:
            folders.add(name)
        elif kind == "file" and name.endswith(".tar"):
            tars.add(name.removesuffix(".tar"))
        else:
            left_out[
                {
                    "image": "images beside the class folders",
                    "folder": LOOP,
                    "file": _suffix(entry.name),
                }[kind]
            ] += 1
    if both := folders & tars:
        left_out[".tar beside a folder of that name"] = len(both)
    names = folders | tars
    numbers = all(name.isdecimal() for name in names)
    return sorted(names, key=lambda name: (int(name) if numbers else 0, name)), left_out


def is_image(name: bytes) -> bool:
    """Returns whether a file of this name is read."""
    return name.lower().endswith(_SUFFIXES) and not name.startswith(b".")


def say_what_is_left_out(folder: Path, left_out: dict[str, Counter]) -> None:
    """Logs one warning with counts of what is not read, and in which class folders.

    Args:
        folder: the split's folder.
        left_out: counts by kind for each class folder; "" is the split's folder itself.
    """
    found = [f"{kind} ({count})" for kind, count in sorted(left_out[""].items())]
    inside = {name: counts for name, counts in left_out.items() if name}
    for kind in sorted(set().union(*inside.values())):
        names = [name for name, counts in inside.items() if counts[kind]]
        found.append(f"{kind} ({sum(inside[name][kind] for name in names)} in {some(names)})")
    if found:
        say_once(logging.WARNING, f"{folder}: not read are {', '.join(found)}")


@functools.cache
def say_once(level: int, message: str) -> None:
    """Logs a message only the first time; a split may be opened several times."""
    log.log(level, "%s", message)


def some(names: Sequence[str], most: int = 8) -> str:
    """Joins the first few names for a message; bytes that are not UTF-8 are escaped."""
    more = len(names) - most
    return ", ".join(map(shown, names[:most])) + (f" and {more} more" if more > 0 else "")


def shown(name: bytes | str) -> str:
    """Returns a file's name for people, with bytes that are not UTF-8 escaped."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _look(folder: bytes, left_out: Counter[str]) -> Iterator[tuple[os.DirEntry, str]]:
    """Yields the entries of a folder as "image", "folder" or other "file".

    Whatever is better not opened is counted in `left_out` instead.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            # A link with an image's name is not resolved: with millions of them that takes long.
            if is_image(entry.name) and (
                entry.is_file(follow_symlinks=False) or entry.is_symlink()
            ):
                yield entry, "image"
            elif entry.name in SYSTEM_FILES:
                continue
            elif entry.name in SYSTEM_FOLDERS:
                left_out[f"{entry.name.decode()}/"] += 1
            elif entry.name.startswith(b"."):
                left_out["hidden files"] += 1
            elif os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
                yield entry, "folder"
            elif os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file():
                yield entry, "file"
            else:
                left_out["links to nothing" if entry.is_symlink() else "pipes or sockets"] += 1


def _follow(entry: os.DirEntry, way: tuple[bytes, ...]) -> tuple[bytes, ...] | None:
    """Follows an entry that is a folder or a link to one, without running in circles.

    `way` holds the real folder of each link on the way here. Returns it with this link added; None
    if the link leads to a folder that one of the links is in.
    """
    if not entry.is_symlink():
        return way
    way = (*way, os.path.realpath(os.path.dirname(entry.path)))
    target = os.path.join(os.path.realpath(entry.path), b"")
    return None if any(os.path.join(place, b"").startswith(target) for place in way) else way


def _suffix(name: bytes) -> str:
    return shown(os.path.splitext(name)[1]).lower() or "files without a suffix"


def _list_tar(path: Path) -> Listing:
    try:
        with tarfile.open(path, "r:") as tar:
            files = [(os.fsencode(m.name), m.offset_data, m.size) for m in tar if m.isfile()]
    except tarfile.TarError as error:
        raise ValueError(f"{path} is damaged, or not an uncompressed tar: {error}") from error
    if files and max(start + size for _, start, size in files) > path.stat().st_size:
        raise ValueError(f"{path} ends early: it was cut short")
    left_out = Counter(reason for name, _, _ in files if (reason := reason_in_tar(name)))
    files = sorted(file for file in files if reason_in_tar(file[0]) is None)
    width = max((len(name) for name, _, _ in files), default=1)
    names = np.asarray(files, [("name", f"S{width}"), ("offset", np.int64), ("size", np.int64)])
    return Listing(names, left_out)


def reason_in_tar(path: bytes) -> str | None:
    *folders, name = path.split(b"/")
    if name in SYSTEM_FILES:
        return ""
    for folder in folders:
        if folder in SYSTEM_FOLDERS:
            return f"{folder.decode()}/"
    if any(part.startswith(b".") and part not in (b".", b"..") for part in (*folders, name)):
        return "hidden files"
    return None if is_image(name) else _suffix(name)
