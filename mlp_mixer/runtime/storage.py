"""Files that appear whole or not at all, whenever the process that writes them is killed."""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_whole(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Calls `fill` with a new file, which then takes the place of `path`, if all went well.

    Where `path` is a symbolic link, what it points to is written, and the link stays. The folder is
    made where there is none.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        with temporary.open("w+b") as file:
            fill(file)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a whole text file, as `write_whole` does."""
    write_whole(path, lambda file: file.write(text.encode()))


def temporary_beside(path: Path) -> Path:
    """Returns a name in the folder of `path` that no other writer has, in any process."""
    return path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.tmp")
