"""Where weights come from: files, web addresses, short names, the Hugging Face hub, training runs.

`open_source` finds out which of these a source is and gives all of them the same face.
"""

import contextlib
import hashlib
import logging
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from mlp_mixer.training import checkpoint
from mlp_mixer.training import workdir as run
from mlp_mixer.weights import download, npz, released, safetensors
from mlp_mixer.weights.npz import Arrays

log = logging.getLogger(__name__)

HUB = "hf:"
HUB_FILE = "model.safetensors"
PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle")

# How files begin that are taken for weights. A torch pickle that is a zip archive is found later.
_BEGINNINGS = (
    (b"\x93NUMPY", "a single .npy array"),
    (b"\x89HDF", "an HDF5 file, such as Keras writes"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"<", "a web page (HTML or XML)"),
    (b"version https://git-lfs", "a Git LFS pointer; fetch the file itself with git lfs pull"),
)


@dataclass(frozen=True)
class Source:
    """Weights that are open for reading.

    Attributes:
        name: as the user wrote it.
        where: what it turned out to be: a file's path, or a checkpoint's folder.
        format: "npz", "safetensors" or "orbax".
        arrays: by name, of the right shapes and dtypes, but to be read with `read`.
        read: a name to its array.
        settings: what the arrays cannot say; see `metadata`. May have "image_size" and "gelu".
        expected: what a released file holds, None for any other.
    """

    name: str
    where: Path
    format: str
    arrays: Arrays
    read: Callable[[str], np.ndarray]
    settings: dict[str, Any]
    expected: released.Released | None = None

    def sha256(self) -> str:
        """Digest of the file, or of a checkpoint's arrays with their names."""
        digest = hashlib.sha256()
        if self.where.is_dir():
            for name in sorted(self.arrays):
                digest.update(name.encode())
                digest.update(np.ascontiguousarray(self.read(name)).tobytes())
        else:
            with self.where.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256")
        return digest.hexdigest()


@contextlib.contextmanager
def open_source(source: str | Path) -> Iterator[Source]:
    """Opens weights by any of their names; see `load`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no weights, or damaged ones; names file and array.
        OSError: a download failed.
    """
    name = str(source)
    path, expected = _locate(name)
    settings = _hub_settings(name)
    if path.is_dir():
        settings, path = _run_settings(path)
        if path.is_dir():
            tree = checkpoint.restore_params(path)
            arrays = traverse_util.flatten_dict(tree, sep="/")
            yield Source(name, path, "orbax", arrays, arrays.__getitem__, settings)
            return
    with contextlib.closing(open_file(path)) as reader:
        yield Source(
            name,
            path,
            reader.format,
            reader.arrays,
            reader.read,
            settings | reader.settings,
            expected,
        )


def open_file(path: Path) -> npz.Reader | safetensors.Reader:
    """Opens a weight file by what it begins with, whatever its name is.

    Raises:
        ValueError: the file is neither .npz nor .safetensors; names what it looks like.
    """
    with path.open("rb") as file:
        begin = file.read(64)
    if begin[:2] == b"PK":
        return npz.Reader(path)
    if begin[8:9] == b"{":
        return safetensors.Reader(path)
    if begin[:1] == b"\x80" or path.suffix in PICKLES:
        raise ValueError(npz.torch_pickle(path))
    like = [f", like {what}" for start, what in _BEGINNINGS if begin.lstrip().startswith(start)]
    found = f"begins with {begin[:32]!r}{''.join(like)}" if begin else "is empty"
    raise ValueError(f"{path} is not an .npz or .safetensors file: it {found}")


def _locate(name: str) -> tuple[Path, released.Released | None]:
    """The local file or folder of a source, downloaded if need be."""
    path = Path(name)
    if path.is_file() or path.is_dir():
        return path, None
    if path.exists():
        raise ValueError(f"{name} is neither a file nor a folder")
    if name in released.RELEASED:
        expected = released.RELEASED[name]
        url = released.address(name)
        return download.fetch(url, _check, expected.size, released.SIZE_TOLERANCE), expected
    if name.startswith(("https://", "http://", "gs://")):
        remote = Path(urllib.parse.urlsplit(name).path)
        if remote.suffix in PICKLES:
            raise ValueError(npz.torch_pickle(remote))
        return download.fetch(name, _check), None
    if name.startswith(HUB):
        return _from_hub(name.removeprefix(HUB)), None
    raise FileNotFoundError(
        f"no file {name}; released weights have the names {', '.join(released.RELEASED)}"
    )


def _check(path: Path) -> None:
    """Reads every array of a file, which compares its checksums, and keeps none."""
    with contextlib.closing(open_file(path)) as reader:
        for name in reader.arrays:
            reader.read(name)


def _from_hub(repository: str) -> Path:
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise ValueError(
            f"{HUB}{repository} needs the package huggingface_hub: pip install huggingface_hub"
        ) from error
    try:
        return Path(huggingface_hub.hf_hub_download(repository, HUB_FILE))
    except errors.EntryNotFoundError as error:
        if isinstance(error, errors.LocalEntryNotFoundError):
            raise OSError(f"{HUB}{repository}: the Hugging Face hub cannot be reached") from error
        raise FileNotFoundError(f"{HUB}{repository} has no {HUB_FILE}") from error
    except errors.RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"the Hugging Face hub has no {repository}, or it is private and needs `hf auth login`"
        ) from error
    except errors.HFValidationError as error:
        raise ValueError(f"{HUB}{repository}: {error}") from error


def _hub_settings(name: str) -> dict[str, Any]:
    """What the name of a timm model says that its file does not."""
    if not name.startswith(HUB):
        return {}
    if "miil_" in name:
        log.warning("%s was trained on pixels in [0, 1]: give it (images + 1) / 2", name)
    if "goog_" not in name:
        return {}
    log.info("%s: weights that were trained with the tanh GELU, so that is computed; timm itself "
             "computes the exact one (gelu='exact')", name)  # fmt: skip
    return {"gelu": "tanh"}


def _run_settings(folder: Path) -> tuple[dict[str, Any], Path]:
    """For a run's workdir or one of its checkpoints: its settings, and the weights' place."""
    if (folder / run.CONFIG_FILE).exists():
        config = run.read_config(folder)
        weights = folder / run.WEIGHTS_FILE
        place = weights if weights.exists() else checkpoint.latest(folder)
    elif (folder / "params").is_dir() and folder.name.isdecimal():
        workdir, place = folder.absolute().parent.parent, folder
        known = (workdir / run.CONFIG_FILE).exists()
        config = run.read_config(workdir) if known else {}
    else:
        raise ValueError(
            f"{folder} holds no weights: it is neither the workdir of a training run (no "
            f"{run.CONFIG_FILE}) nor one of its checkpoints (WORKDIR/{checkpoint.FOLDER}/STEP)"
        )
    settings = {"gelu": config.get("model", {}).get("gelu", "tanh")}
    if "image_size" in config:
        settings["image_size"] = config["image_size"]
    return settings, place
