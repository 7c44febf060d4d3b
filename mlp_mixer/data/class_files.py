"""Text files that accompany a folder of images: its list of classes, and labels of single files."""

import codecs
import json
import logging
import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlp_mixer.data.listing import say_once, some

CLASS_FILES = ("classes.tsv", "classes.txt")  # the first that is there gives the classes
MOST_CLASSES = 1_000_000  # a larger number is not that of a class
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: Path) -> str:
    """Reads a text file in UTF-8, or in the encoding that its byte order mark declares.

    Line endings of every system become a newline.

    Raises:
        ValueError: the file has another encoding; names the line.
    """
    data = path.read_bytes()
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
        wrong = text.encode().find(b"\0")
    except UnicodeDecodeError as error:
        wrong = error.start
    if wrong >= 0:
        number, start = data.count(b"\n", 0, wrong) + 1, data.rfind(b"\n", 0, wrong) + 1
        raise ValueError(
            f"{path}, line {number}: {data[start:].splitlines()[0][:80]!r} is not UTF-8; save the "
            "file as UTF-8"
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        ValueError: it is not valid JSON; names the file and the line.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from error


def check_name(name: str, where: str) -> None:
    """Raises a ValueError if a class name cannot be written as one field of a text file."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{where}: the name {os.fsencode(name)!r} of a class is not UTF-8; rename it (convmv "
            "-f latin1 -t utf8 does it for many)"
        ) from None
    if len(name.splitlines()) != 1 or "\t" in name:
        raise ValueError(f"{where}: the name {name!r} of a class has to be one line without tabs")


def read_classes(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Reads the folder names and readable names of all classes, one class per line.

    The columns, separated by tabs, are FOLDER, or FOLDER and NAME, or NUMBER, FOLDER and NAME; in
    the last case the first line may be a heading. A class need not have a folder.

    Raises:
        ValueError: lines differ in their number of columns, a number is not the line's position, or
            a folder appears twice.
    """
    rows = [(number, line.split("\t")) for number, line in _lines(path)]
    if rows and len(rows[0][1]) == 3 and not rows[0][1][0].isdecimal():
        del rows[0]
    if not rows:
        raise ValueError(f"{path} has no classes")
    lines: dict[str, int] = {}  # line number of each folder
    names = []
    for label, (line, fields) in enumerate(rows):
        where, row = f"{path}, line {line}", [field.strip() for field in fields]
        if len(row) != len(rows[0][1]) or len(row) > 3 or not all(row):
            raise ValueError(
                f"{where}: write FOLDER, FOLDER and NAME, or NUMBER, FOLDER and NAME in every "
                f"line, with tabs between, not {row}"
            )
        if len(row) == 3 and row[0] != str(label):
            raise ValueError(f"{where}: class {label} has the number {row[0]}; they begin at 0")
        folder = row[-2] if len(row) > 1 else row[0]
        if folder in lines:
            raise ValueError(f"{where}: {folder} twice, first in line {lines[folder]}")
        for name in row:
            check_name(name, where)
        lines[folder] = line
        names.append(row[-1])
    return tuple(lines), tuple(names)


def read_labels(
    path: Path, folders: Sequence[str], files: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Reads the labels of images that lie side by side in one folder.

    Args:
        path: text file of lines "FILE CLASS", separated by a blank or a tab; both may contain
            blanks themselves. CLASS is the folder name of a class or, if no folder name is a
            number, the number of the class in alphabetical order.
        folders: folder names of the classes.
        files: names of the images in the folder, bytes.

    Returns:
        The labelled files in order, bytes [n], and their labels, int32 [n].

    Raises:
        ValueError: a line does not have this form, or names a file that does not exist or was
            labelled before; says which line.
    """
    if not path.is_file():
        raise ValueError(
            f"{path.with_suffix('')} has no class folders; images that lie in it side by side need "
            f"their labels in {path}, with lines such as a.jpg {folders[0]}"
        )
    label_of = {folder: label for label, folder in enumerate(folders)}
    numbers = {}
    if not any(map(str.isdecimal, folders)):
        numbers = {str(number): int(label) for number, label in enumerate(alphabetical(folders))}
        label_of |= numbers
    images = set(map(os.fsdecode, files))
    found: dict[str, tuple[int, int]] = {}  # line number and label of each file
    for line, text in _lines(path):
        pairs = {
            (name, label_of[folder]): folder for name, folder in _splits(text) if folder in label_of
        }
        there = [pair for pair in pairs if pair[0] in images]
        if len(there) != 1:
            problem = "could mean several files" if there else (
                f"names no image in {path.with_suffix('')}" if pairs else
                f"ends in none of the {len(folders)} classes, by its folder name or its number in "
                "alphabetical order"
            )  # fmt: skip
            raise ValueError(
                f"{path}, line {line}: {text!r} {problem}; a line is a file and a class, for "
                f"instance a.jpg {folders[0]}"
            )
        name, label = there[0]
        if name in found:
            raise ValueError(f"{path}, line {line}: {name} is in line {found[name][0]} already")
        found[name] = line, label
        if pairs[there[0]] in numbers:
            say_once(logging.INFO, f"{path}: {counted(folders)}")
    names = sorted(found, key=os.fsencode)
    labels = [found[name][1] for name in names]
    return np.asarray(list(map(os.fsencode, names)), np.bytes_), np.asarray(labels, np.int32)


def classes_of(
    present: Sequence[str], folders: Sequence[str], where: Path, origin: str
) -> dict[str, int]:
    """Returns the label of each folder of a split.

    Folders are matched with classes by name. If all of them are numbers from 0 to the number of
    classes - 1, and no class is named by a number, they count the classes in alphabetical order.

    Args:
        present: names of the folders in the split.
        folders: folder names of the classes.
        where: the split's folder, for messages.
        origin: where the classes were read from, for messages.

    Raises:
        ValueError: some folders are not classes, and the folders do not number all classes either.
    """
    label_of = {folder: label for label, folder in enumerate(folders)}
    unknown = [folder for folder in present if folder not in label_of]
    if not unknown:
        return label_of
    numbers = all(map(str.isdecimal, present))
    all_numbers = numbers and sorted(map(int, present)) == list(range(len(folders)))
    if all_numbers and not any(map(str.isdecimal, folders)):
        say_once(logging.INFO, f"{where}: {counted(folders)}")
        order = alphabetical(folders)
        return {folder: int(order[int(folder)]) for folder in present}
    hint = ""
    if numbers:
        hint = (
            f". (Numbers count the {len(folders)} classes only where the folders are all of 0 to "
            f"{len(folders) - 1}, and no class is called by a number)"
        )
    elif twin := {_alike(folder): folder for folder in folders}.get(_alike(unknown[0])):
        hint = f". ({unknown[0]!a} and {twin!a} are different names)"
    raise ValueError(
        f"{where} has class folders that {origin} has not: {some(unknown)}; there are "
        f"{some(folders)}{hint}"
    )


def counted(folders: Sequence[str]) -> str:
    """Returns how classes that are numbers are understood, for a message."""
    names = sorted(folders)
    return (
        f"the numbers 0 to {len(names) - 1} are taken to count the classes in alphabetical order, "
        f"from {names[0]} to {names[-1]}"
    )


def _alike(name: str) -> str:
    """Returns the same text for names that look alike."""
    return unicodedata.normalize("NFC", name).casefold()


def alphabetical(folders: Sequence[str]) -> np.ndarray:
    """Returns the class indices in alphabetical order of folder names, int [n].

    Most label files of other projects number the classes in this order.
    """
    return np.asarray(sorted(range(len(folders)), key=folders.__getitem__))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields number and stripped text of each line that is not empty."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line := line.strip():
            yield number, line


def _splits(line: str) -> Iterator[tuple[str, str]]:
    """Yields every way to split a line in two: at a tab if there is one, else at any blank."""
    separator = "\t" if "\t" in line else " "
    for i, character in enumerate(line):
        if character == separator:
            yield line[:i].strip(), line[i:].strip()
