"""Published-style `.npz` files: one array for each parameter, under its path in the tree."""

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util


def read(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file by name. Nothing is ever unpickled.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an `.npz` file, or a damaged one; names the file and the array.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no file {path}")
    with path.open("rb") as file:
        begin = file.read(64)
    if begin[:2] != b"PK":
        found = f"begins with {begin[:32]!r}" if begin else "is empty"
        raise ValueError(f"{path} is not an .npz file: it {found}")
    arrays = {}
    name = "its table of contents"
    try:
        with np.load(path, allow_pickle=False) as file:
            for name in file.files:
                arrays[name] = file[name]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"{path} is damaged: cannot read {name} ({error})") from error
    return arrays


def write(path: str | Path, params: dict[str, Any]) -> None:
    """Writes a parameter tree, uncompressed, in the layout of the published files.

    The file appears complete or not at all.
    """
    path = Path(path)
    flat = traverse_util.flatten_dict(params, sep="/")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.savez(file, **{name: np.asarray(array) for name, array in flat.items()})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
