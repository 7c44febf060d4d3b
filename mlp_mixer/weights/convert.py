"""Converts weights to a file of another layout, input size or dtype, or without the head."""

import re
from collections import Counter
from os import PathLike, fspath
from typing import NamedTuple

import ml_dtypes
import numpy as np
from flax import traverse_util

from mlp_mixer.models import mixer
from mlp_mixer.models.checks import as_pair
from mlp_mixer.models.gelu import Gelu
from mlp_mixer.runtime.storage import AnyPath, as_path, check_no_folder, replacing
from mlp_mixer.weights import load, naming, npz, of_runs, pixel_range, safetensors
from mlp_mixer.weights.files import open_weights
from mlp_mixer.weights.finite import not_finite
from mlp_mixer.weights.npz import Arrays
from mlp_mixer.weights.resize import Resize
from mlp_mixer.weights.save import settings_of

DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
FORMATS = {".npz": npz, ".safetensors": safetensors}


class Converted(NamedTuple):
    """What `convert` did.

    Attributes:
        module: the model that the result is for.
        changes: in words, as in the result's history.
        rows: the arrays that changed: how many changed alike, in the source, in the result.
    """

    module: mixer.MlpMixer
    changes: list[str]
    rows: list[tuple[str, str, str]]


def convert(
    source: str | PathLike,
    destination: str | PathLike,
    *,
    image_size: int | tuple[int, int] | None = None,
    patch_size: int | tuple[int, int] | None = None,
    resize: Resize = "auto",
    layout: str | None = None,
    dtype: str = "float32",
    drop_head: bool = False,
    gelu: Gelu | None = None,
) -> Converted:
    """Reads weights from any source that `load` accepts, and writes them to a file.

    Args:
        source: weights of any source that `mlp_mixer.load` reads.
        destination: a file name that ends in .npz or .safetensors.
        image_size: the model's, if another than the weights'; see `mlp_mixer.load`.
        patch_size: likewise.
        resize: how weights are adapted to other sizes, "auto", "tile" or "resample".
        layout: one of naming.LAYOUTS; None for "timm" in .safetensors and "linen" in .npz.
        dtype: "float32", "bfloat16" or "float16".
        drop_head: whether to leave the head out.
        gelu: "tanh" or "exact", if another than the source's; see `mlp_mixer.load`.

    Raises:
        FileNotFoundError, ValueError, OSError: as for `load`; also if the dtype or the layout is
            unknown, the dtype cannot hold the numbers, the layout is not one of such files, the
            destination is a folder or the source, or what was written reads back different.
    """
    source, destination = fspath(source), as_path(destination)
    layout = layout or default_layout(destination)
    for what, value, known in (("layout", layout, naming.LAYOUTS), ("dtype", dtype, (*DTYPES,))):
        if value not in known:
            names = f"{', '.join(known[:-1])} or {known[-1]}"
            raise ValueError(f"there is no {what} {value!r}; use {names}")
    if (layout == "timm") != (default_layout(destination) == "timm"):
        raise ValueError(
            f"layout {layout} does not go into {destination}; timm's is for .safetensors files, "
            "the others for .npz files"
        )
    check_no_folder(destination)
    with open_weights(source) as opened:
        opened.check_not_overwritten(destination)
        if unusual := of_runs.kind(opened.config):
            raise ValueError(
                f"{source} is {unusual}, which neither .npz nor .safetensors files of Mixers can "
                "say; use the run's workdir"
            )
        before = load.recognise(opened, as_pair(image_size) if image_size else None)
        in_source = {
            name: (entry.name, opened.arrays[entry.name]) for name, entry in before.entries.items()
        }
        digest, history = opened.sha256(), opened.settings.get("history", [])
        low_high = load.trained_range(opened)
    module, params, lasting = load.read(
        source, 0 if drop_head else None, image_size, patch_size, resize, gelu=gelu
    )
    flat = {
        name: _cast(name, array, dtype)
        for name, array in traverse_util.flatten_dict(params, sep="/").items()
    }
    changes = _changes(before, module, layout, in_source, dtype)
    if low_high != pixel_range.RANGE:
        changes.append("stem for pixels in [-1, 1] instead of {} to {}".format(*low_high))
    history = [*history, {"source": source, "sha256": digest, "changes": changes}]
    settings = settings_of(module) | lasting | {"history": history}
    _write_checked(destination, module, flat, layout, settings)
    return Converted(module, changes, _rows(in_source, flat, layout))


def default_layout(path: AnyPath) -> str:
    """Returns the layout that a file of this name gets by default.

    Raises:
        ValueError: the name ends in neither .npz nor .safetensors.
    """
    if path.suffix not in FORMATS:
        raise ValueError(f"{path} should end in {' or '.join(FORMATS)}")
    return "timm" if path.suffix == ".safetensors" else "linen"


def _cast(name: str, array: np.ndarray, dtype: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        cast = np.asarray(array).astype(DTYPES[dtype], copy=False)
    if not_finite(cast):
        largest = float(np.abs(array).max())
        raise ValueError(f"{name} has numbers up to {largest:.4g}, which {dtype} cannot hold")
    return cast


def _changes(
    before: naming.Recognised,
    module: mixer.MlpMixer,
    layout: str,
    in_source: dict[str, tuple[str, np.ndarray]],
    dtype: str,
) -> list[str]:
    """Says in words how the result differs."""
    old = before.module
    dtypes = "/".join(sorted({array.dtype.name for _, array in in_source.values()}))
    pairs = (
        ("layout", before.layout, layout),
        ("dtype", dtypes, dtype),
        ("image size", "{}x{}".format(*old.image_size), "{}x{}".format(*module.image_size)),
        ("patch size", "{}x{}".format(*old.patch_size), "{}x{}".format(*module.patch_size)),
        ("token-mixing width", old.tokens_mlp_dim, module.tokens_mlp_dim),
    )
    changes = [f"{what} {a} -> {b}" for what, a, b in pairs if a != b]
    if old.num_classes != module.num_classes:
        changes.append(f"head of {old.num_classes} classes dropped")
    return changes or ["nothing changed but the file"]


def _rows(
    in_source: dict[str, tuple[str, np.ndarray]], flat: Arrays, layout: str
) -> list[tuple[str, str, str]]:
    """Lists arrays whose name, shape or dtype changed; one row for blocks that changed alike."""

    def describe(name: str, array: np.ndarray) -> str:
        name = re.sub(r"(MixerBlock_|encoderblock_|blocks\.)\d+", r"\1*", name)
        return f"{name} {array.dtype.name} {'x'.join(map(str, array.shape))}"

    results = {
        name: describe(*next(iter(naming.to_layout({name: array}, layout).items())))
        for name, array in flat.items()
    }
    pairs = [(describe(*old), results.get(name, "-")) for name, old in in_source.items()]
    return [(str(n), *pair) for pair, n in Counter(pairs).items() if pair[0] != pair[1]]


def _write_checked(
    path: AnyPath, module: mixer.MlpMixer, flat: Arrays, layout: str, settings: dict
) -> None:
    """Writes a file, reads it back, compares, and only then gives it its name."""
    with replacing(path) as unchecked:
        FORMATS[path.suffix].write(unchecked, naming.to_layout(flat, layout), settings)
        module_back, params_back, settings_back = load.read(unchecked)
        load.check_fits(module_back, module, str(unchecked))
        back = traverse_util.flatten_dict(params_back, sep="/")
        differing = [
            n for n, a in flat.items() if not np.array_equal(a.astype(np.float32), back[n])
        ]
        settings_back |= settings_of(module_back)
        said = {name: value for name, value in settings.items() if name != "history"}
        if differing or settings_back != said:
            raise ValueError(
                f"{path}: what was read back differs from what was written, in "
                f"{', '.join(differing[:4]) or 'its settings'}; is the disk in order?"
            )
