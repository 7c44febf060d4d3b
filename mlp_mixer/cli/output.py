"""Printing and writing that several commands share."""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def note(text: str) -> None:
    """Prints a note on stderr, as stdout may be read by a program."""
    print(text, file=sys.stderr)


def in_words(error: Exception) -> str:
    """Returns an error's message; for system errors, FILE: REASON without the error number."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Returns rows of cells as lines with aligned columns; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def save_figure(figure: Any, path: str | Path) -> None:
    """Writes a figure in the format of the file's suffix."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, bbox_inches="tight", facecolor="white")
    note(f"drawn to {path}")


def save_numbers(rows: Sequence[dict[str, Any]], path: str | Path | None) -> None:
    """Writes rows with the same keys as a CSV file with a heading, if a path is given."""
    if not path:
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    note(f"numbers in {path}")
