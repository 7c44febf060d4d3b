"""Printing and writing that several commands share."""

import csv
import sys
from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Any

from mlp_mixer.runtime.storage import as_path, replacing, write_whole


def note(text: str) -> None:
    """Prints a note on stderr, as stdout may be read by a program."""
    print(text, file=sys.stderr)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Returns rows of cells as lines with aligned columns; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def save_figure(figure: Any, path: str | PathLike) -> None:
    """Writes a figure in the format of the file's suffix."""
    kind = as_path(path).suffix.removeprefix(".") or "png"
    write_whole(
        as_path(path),
        lambda file: figure.savefig(
            file, format=kind, dpi=130, bbox_inches="tight", facecolor="white"
        ),
    )
    note(f"drawn to {path}")


def save_numbers(rows: Sequence[dict[str, Any]], path: str | PathLike | None) -> None:
    """Writes rows with the same keys as a CSV file with a heading, if a path is given."""
    if not path:
        return
    save_csv([list(rows[0]), *(row.values() for row in rows)], path)


def save_csv(rows: Iterable[Iterable[Any]], path: str | PathLike) -> None:
    """Writes rows, of which the first is the heading, as a CSV file, one after the other.

    The file appears when all are written.
    """
    with replacing(as_path(path)) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    note(f"numbers in {path}")
