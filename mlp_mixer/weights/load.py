"""`load` and `save`: between files and (module, params)."""

import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from mlp_mixer.models import mixer
from mlp_mixer.models.gelu import FORMS as GELUS
from mlp_mixer.weights import layouts, npz, resolution
from mlp_mixer.weights.sources import Source, open_source

log = logging.getLogger(__name__)

CHUNK = 1 << 18  # numbers that are looked at together, so that they stay in the cache


def load(
    source: str | Path,
    num_classes: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    patch_size: int | tuple[int, int] | None = None,
    resize: str = "auto",
    *,
    gelu: str | None = None,
    like: mixer.MlpMixer | None = None,
) -> tuple[mixer.MlpMixer, dict[str, Any]]:
    """Reads Mixer weights: the module they fit, and its parameters.

    Variant, input size and number of classes are read from the arrays themselves. Nothing is ever
    unpickled, and numbers that are not finite are refused.

    Args:
        source: one of
            a path of an .npz file (published names, or those from before Linen) or of a
            .safetensors file with timm's names;
            an https:// or gs:// address of one, downloaded once into the cache folder;
            the short name of a released file, such as "imagenet21k/Mixer-B_16";
            "hf:timm/NAME", a timm model on the Hugging Face hub;
            the workdir of a training run (its model.npz, or where it is not finished its newest
            checkpoint), or the folder of one checkpoint, WORKDIR/checkpoints/STEP.
        num_classes: None keeps the head. 0 leaves it out; any other number that is not the file's
            puts a new head there, which starts at zero.
        image_size: pixels, one number for square or (height, width). None keeps the file's; any
            other size that the patches tile is possible, see `resize`. Where the weights' own
            tokens form no square, this is the size they were made for.
        patch_size: pixels, likewise. Another one than the file's resizes the stem as FlexiViT does.
        resize: how the token-mixing weights get to another grid of patches. "tile" is the paper's
            block-diagonal scheme for whole multiples, which makes tokens_mlp_dim grow as the number
            of patches does; "resample" resamples their filters over the grid, as is done with the
            position embeddings of ViT, and changes no width. "auto" tiles where image_size is a
            whole multiple of the file's and the patches stay, else resamples.
        gelu: "tanh" or "exact"; None for the right one: what the file says, else "exact" for timm's
            names and "tanh" for all others and for timm's conversions of the released weights.
        like: a module whose parameters the result must fit, head included.

    Returns:
        (module, params): `module.apply({"params": params}, images)` gives logits. params is a
        nested dict of float32 NumPy arrays with the published names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not Mixer weights, damaged ones, or they cannot be given this size or do not
            fit `like`; says why.
        OSError: a download failed.
    """
    wanted = None if image_size is None else mixer.as_pair(image_size)
    with open_source(source) as opened:
        module, layout, entries = recognise(opened, otherwise=wanted)
        if num_classes not in (None, module.num_classes):
            module = module.clone(num_classes=0)
        params = _read(opened, {name: entries[name] for name in layouts.shapes(module)})
    module = module.clone(gelu=gelu or opened.settings.get("gelu") or default_gelu(layout))
    if module.gelu not in GELUS:
        raise ValueError(f"unknown gelu {module.gelu!r}; use one of {', '.join(GELUS)}")
    trained = module
    module = resolution.resize_module(trained, wanted, patch_size, resize)
    params = resolution.resize_params(params, trained, wanted, patch_size, resize)
    if changes := resolution.describe(trained, module):
        log.info("%s: %s", source, changes)
    if num_classes and num_classes != module.num_classes:
        log.warning("%s: a new head for %d classes, all zero", source, num_classes)
        params["head"] = {
            "kernel": np.zeros((module.hidden_dim, num_classes), np.float32),
            "bias": np.zeros(num_classes, np.float32),
        }
        module = module.clone(num_classes=num_classes)
    if like is not None:
        check_fits(module, like, str(source))
    return module, params


def save(path: str | Path, params: dict[str, Any], module: mixer.MlpMixer | None = None) -> None:
    """Writes parameters as a published-style .npz file, which appears complete or not at all.

    With `module`, the file also says what its arrays cannot: the image size, where that is not
    square, and the kind of GELU.
    """
    flat = traverse_util.flatten_dict(jax.device_get(params), sep="/")
    npz.write(Path(path), flat, settings_of(module) if module else None)


def recognise(source: Source, otherwise: tuple[int, int] | None = None) -> layouts.Recognised:
    """What the headers of an open source say; `otherwise` as for `layouts.recognise`.

    Raises:
        ValueError: it is not a Mixer, or not the one that its name promises.
    """
    made_for = source.settings.get("image_size")
    found = layouts.recognise(
        source.arrays, source.name, mixer.as_pair(tuple(made_for)) if made_for else None, otherwise
    )
    if expected := source.expected:
        have = (mixer.variant_of(found.module), found.module.num_classes)
        if have != expected[:2]:
            raise ValueError(
                f"{source.name} ({source.where}) is a {have[0]} with {have[1]} classes, not a "
                f"{expected.variant} with {expected.num_classes}"
            )
    return found


def default_gelu(layout: str) -> str:
    """The kind that weights of a layout are computed with where nothing else says so."""
    return "exact" if layout == "timm" else "tanh"


def settings_of(module: mixer.MlpMixer) -> dict[str, Any]:
    """What a file has to say beside its arrays; see `metadata`."""
    return {"image_size": list(module.image_size), "gelu": module.gelu}


def check_fits(module: mixer.MlpMixer, like: mixer.MlpMixer, where: str) -> None:
    """Compares the parameters of two modules.

    Raises:
        ValueError: they differ; names the arrays.
    """
    if differing := layouts.differences(layouts.shapes(module), layouts.shapes(like)):
        raise ValueError(f"{where} does not fit the model:\n" + "\n".join(differing))


def not_finite(array: np.ndarray) -> int:
    """How many numbers of an array are NaN or infinite."""
    flat = array.ravel(order="K")  # in the order of memory: no copy
    chunks = (flat[i : i + CHUNK] for i in range(0, flat.size, CHUNK))
    return sum(chunk.size - int(np.count_nonzero(np.isfinite(chunk))) for chunk in chunks)


def _read(source: Source, entries: dict[str, layouts.Entry]) -> dict[str, Any]:
    """The parameter tree, in float32."""
    params, wrong = {}, []
    for name, entry in entries.items():
        array = source.read(entry.name)
        with np.errstate(over="ignore"):  # float64 that is too large becomes infinite, and is found
            array = array.astype(np.float32, copy=False)
        if count := not_finite(array):
            wrong.append(f"  {entry.name}: {count} of {array.size} numbers")
        params[name] = entry.arrange(array)
    if wrong:
        if len(wrong) > 12:
            wrong[12:] = [f"  and {len(wrong) - 12} more arrays"]
        raise ValueError(
            f"{source.name} holds numbers that are NaN or infinite:\n" + "\n".join(wrong)
        )
    return traverse_util.unflatten_dict(params, sep="/")
