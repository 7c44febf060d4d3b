"""Hugging Face data sets on this machine's disk: their splits, and the files that hold them.

The library `datasets` finds them, downloads them and writes them as Arrow files. It is given no
code to run: data sets that are scripts are refused, as it does itself from version 4.0 on.
"""

import importlib.util
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlp_mixer.data.bucket_copy import is_address, on_disk
from mlp_mixer.data.listing import some

log = logging.getLogger(__name__)

SAVED = ("dataset_dict.json", "state.json")  # one of them is in a folder that save_to_disk wrote
END = b"\xff\xff\xff\xff\0\0\0\0"  # of an Arrow stream
HOW = "hf:OWNER/NAME, hf:OWNER/NAME/CONFIG or hf:FOLDER"


def local_folder(name: str) -> Path | None:
    """Returns the folder that a name means, or None if it is a name on the hub.

    Raises:
        FileNotFoundError: it can only be a folder, and does not exist.
    """
    if is_address(name):
        return on_disk(name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if name.startswith(("/", "./", "../", "~")):
        raise FileNotFoundError(f"no folder {folder}; a data source hf:FOLDER needs it")
    return None


def load(name: str) -> dict[str, Any]:
    """Loads a data set: its splits by name, each a memory-mapped `datasets.Dataset`.

    Args:
        name: OWNER/NAME or OWNER/NAME/CONFIG on the hub, which is downloaded unless it is in the
            library's cache; or a folder that `save_to_disk` wrote, or that has Parquet or other
            files which the library reads.

    Raises:
        ValueError: the library is not installed, there is no such data set, or it cannot be read;
            says what to do.
        FileNotFoundError: the folder does not exist.
    """
    try:
        import datasets  # takes over a second, and only this needs it
    except ImportError as error:
        raise ValueError(f"hf:{name} needs datasets: pip install datasets ({error})") from error
    folder = local_folder(name)
    try:
        if folder is None:
            found = _load_from_hub(name)
        elif any((folder / file).is_file() for file in SAVED):
            found = datasets.load_from_disk(str(folder), keep_in_memory=False)
        else:
            found = datasets.load_dataset(str(folder), keep_in_memory=False)
    except ConnectionError as error:
        repository, config = _repository(name)
        arguments = ", ".join(repr(each) for each in (repository, config) if each)
        raise ValueError(
            f"hf:{name} is neither a folder here nor in the cache of the library datasets, and the "
            f"Hugging Face hub cannot be reached ({error}). Load it once on a machine with a "
            f"connection: datasets.load_dataset({arguments}).save_to_disk('FOLDER'), copy FOLDER, "
            "and use hf:FOLDER"
        ) from error
    except Exception as error:  # the library raises errors of many kinds
        if isinstance(error, ValueError) and str(error).startswith("hf:"):
            raise
        raise ValueError(
            f"hf:{name} cannot be read: {type(error).__name__}: {error}. A data source is {HOW}"
        ) from error
    if isinstance(found, datasets.Dataset):
        found = {str(found.split or "train"): found}
    return {str(split): data for split, data in found.items()}


def _repository(name: str) -> tuple[str, str]:
    """Cuts OWNER/NAME/CONFIG into OWNER/NAME and CONFIG."""
    parts = name.split("/")
    return "/".join(parts[:2]), "/".join(parts[2:])


def _load_from_hub(name: str) -> Any:
    """Loads what the library's cache has, or else downloads it."""
    import datasets
    from datasets.packaged_modules.cache.cache import Cache

    repository, config = _repository(name)
    if not repository.strip("/") or "/" in config:
        raise ValueError(f"hf:{name} is not the name of a data set; a data source is {HOW}")
    if repository.isidentifier() and importlib.util.find_spec(
        f"datasets.packaged_modules.{repository}"
    ):  # a reader of files, which would take those of the working directory
        raise ValueError(f"hf:{name} is a format of the library datasets; a data source is {HOW}")
    try:
        cached = Cache(
            dataset_name=repository.rpartition("/")[2],
            repo_id=repository,
            config_name=config or None,
            version="auto",
            hash="auto",
        )
        # Without asking the hub, which may have a newer version, and takes half a minute offline.
        found = cached.as_dataset()
    except (ValueError, OSError) as error:
        if "multiple" in str(error):
            raise
        log.info("downloading hf:%s (%s)", name, str(error).splitlines()[0])
        return datasets.load_dataset(repository, config or None, keep_in_memory=False)
    log.info("hf:%s: using the copy in %s", name, cached.cache_dir)
    return found


def files_of(data: Any, where: str) -> tuple[str, ...]:
    """Returns the paths of a split's Arrow files, which hold its examples in order.

    Raises:
        ValueError: the files do not hold just these examples.
    """
    files = tuple(file["filename"] for file in data.cache_files)
    count = sum(batch.num_rows for path in files for batch in batches(path))
    expected = (data.info.splits or {}).get(str(data.split))
    declared = expected.num_examples if expected is not None else len(data)
    if not count == len(data) == declared:
        raise ValueError(
            f"{where}: the files {some(files)} hold {count} examples, but the data set has "
            f"{declared}; they are cut short or damaged. Delete the data set from the disk, and "
            "load or copy it again"
        )
    return files


def batches(path: str, columns: Sequence[str] = ()) -> list[Any]:
    """Memory-maps an Arrow file; returns its record batches, with these columns or all.

    Raises:
        ValueError: the file is damaged.
        FileNotFoundError: there is no such file.
    """
    import pyarrow as pa

    try:
        with pa.memory_map(path) as file, pa.ipc.open_stream(file) as reader:
            found = [batch.select(columns) if columns else batch for batch in reader]
            if file.read_at(len(END), file.size() - len(END)) != END:
                raise pa.ArrowInvalid("its end is missing")
            return found
    except (pa.ArrowInvalid, pa.ArrowIOError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path} is cut short, or is not an Arrow file: {error}") from error


def read_numbers(files: Sequence[str], column: str) -> Iterator[np.ndarray]:
    """Yields the integers of one column, int64; a missing one is -1."""
    for path in files:
        for batch in batches(path, [column]):
            values = batch.column(0)
            yield values.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
