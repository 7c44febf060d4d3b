"""Text files beside a folder of images: what its classes are, and what is in a flat folder."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def read_classes(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Folder names and readable names of the classes, from a file with a line for each class.

    A line is FOLDER, or FOLDER and NAME, or NUMBER, FOLDER and NAME, with tabs between; in the last
    case the first line may be a heading. A class need not have a folder.

    Raises:
        ValueError: lines of different kinds, a number that is not the line's, or a folder twice.
    """
    rows = [line.split("\t") for line in path.read_text().splitlines() if line.strip()]
    if rows and len(rows[0]) == 3 and not rows[0][0].isdecimal():
        del rows[0]
    if not rows:
        raise ValueError(f"{path} has no classes")
    for number, row in enumerate(rows):
        if len(row) != len(rows[0]) or len(row) > 3:
            raise ValueError(
                f"{path}: write FOLDER, FOLDER and NAME, or NUMBER, FOLDER and NAME in every line, "
                f"with tabs between, not {row}"
            )
        if len(row) == 3 and row[0] != str(number):
            raise ValueError(f"{path}: class {number} has the number {row[0]}")
    folders = tuple(row[-2] if len(row) > 1 else row[0] for row in rows)
    if twice := [folder for folder, count in Counter(folders).items() if count > 1]:
        raise ValueError(f"{path} has {', '.join(twice[:8])} twice")
    return folders, tuple(row[-1] for row in rows)


def read_labels(path: Path, folders: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """File names, bytes [n], and labels, int32 [n], of lines "FILE CLASS"."""
    if not path.is_file():
        raise ValueError(
            f"{path.with_suffix('')} has no class folders; images that lie in it side by side need "
            f"their labels in {path}, with lines such as a.jpg {folders[0]}"
        )
    label_of = {str(number): label for number, label in enumerate(alphabetical(folders))}
    label_of |= {folder: label for label, folder in enumerate(folders)}
    names, labels = [], []
    for line in sorted(filter(str.strip, path.read_text().splitlines())):
        name, _, folder = line.strip().rpartition(" ")
        if not name or folder not in label_of:
            raise ValueError(
                f"{path}: {line!r} is not a file and one of the {len(folders)} classes, by its "
                f"folder name or its number in alphabetical order; for instance a.jpg {folders[0]}"
            )
        names.append(os.fsencode(name))
        labels.append(label_of[folder])
    return np.asarray(names, np.bytes_), np.asarray(labels, np.int32)


def alphabetical(folders: Sequence[str]) -> np.ndarray:
    """The classes in the order in which files of other makers number them, int [n]."""
    return np.asarray(sorted(range(len(folders)), key=folders.__getitem__))
