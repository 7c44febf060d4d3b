"""`load` and `read`: weights from any source as (module, params)."""

import logging
from os import PathLike, fspath
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from mlp_mixer.models import known_classes, mixer
from mlp_mixer.models.checks import as_pair, check_value
from mlp_mixer.models.gelu import FORMS as GELUS
from mlp_mixer.models.gelu import Gelu
from mlp_mixer.models.init import shapes
from mlp_mixer.weights import metadata, naming, of_runs
from mlp_mixer.weights.files import OpenWeights, open_weights
from mlp_mixer.weights.finite import not_finite
from mlp_mixer.weights.pixel_range import RANGE, fold
from mlp_mixer.weights.resize import Resize, describe, resize_module, resize_params

log = logging.getLogger(__name__)

# The lists that a source's "class_names" may name; see `files.OpenWeights`.
KNOWN_CLASSES = {"imagenet1k": known_classes.imagenet, "imagenet21k": known_classes.imagenet21k}


class Weights(NamedTuple):
    """What `read` returns.

    Attributes:
        module: the model that the parameters fit.
        params: a nested dict of float32 NumPy arrays with the published names.
        settings: those of metadata.LASTING that are known.
    """

    module: Any
    params: dict[str, Any]
    settings: dict[str, Any]


def load(
    source: str | PathLike,
    num_classes: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    patch_size: int | tuple[int, int] | None = None,
    resize: Resize = "auto",
    *,
    gelu: Gelu | None = None,
    like: mixer.MlpMixer | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Reads weights, and returns the module that they fit and its parameters.

    Variant, input size and number of classes are read from the arrays themselves. Nothing is ever
    unpickled, and numbers that are not finite are refused. The module always expects pixels in
    [-1, 1]: if the weights were trained on another range, it is folded into the stem.

    Args:
        source: one of
            the path of an .npz file (published names, or those from before Linen) or of a
            .safetensors file with timm's names;
            an https:// or gs:// address of one, downloaded once into the cache folder;
            the short name of a released file, such as "imagenet21k/Mixer-B_16", or
            "cifar10/Mixer-nano", which comes with the package;
            "hf://USER/NAME" or "hf://USER/NAME@REVISION", a repository on the Hugging Face hub;
            a folder that holds a model.safetensors, as such a repository does;
            the workdir of a training run (its model.npz, or its newest checkpoint if the run is not
            finished), or the folder of one checkpoint, WORKDIR/checkpoints/STEP. For a run on
            permuted pixels, or of a ViT or BiT, the module is the run's own, at its own size.
        num_classes: None keeps the head, and 0 leaves it out. Any other number that is not the
            file's replaces it with a new head, which starts at zero.
        image_size: in pixels, one number for a square or (height, width). None keeps the file's;
            any other size that the patches tile is possible, see `resize`. If the weights' own
            tokens do not form a square, this is the size that they were made for.
        patch_size: likewise. If it is not the file's, the stem is resized as in FlexiViT.
        resize: how the token-mixing weights are adapted to another grid of patches. "tile" is the
            paper's block-diagonal scheme for whole multiples, in which tokens_mlp_dim grows with
            the number of patches; "resample" resamples their filters over the grid, as is done with
            the position embeddings of ViT, and changes no width. "auto" tiles if image_size is a
            whole multiple of the file's and patch_size is unchanged, else resamples.
        gelu: "tanh" or "exact". None takes what the file says; else "exact" for timm's names, and
            "tanh" for all others and for timm's conversions of the released weights.
        like: a module whose parameters the result must fit, head included.

    Returns:
        (module, params): `module.apply({"params": params}, images)` gives logits. params is a
        nested dict of float32 NumPy arrays with the published names. `weights.load.read` also
        returns what else is known of the weights, such as class names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: these are not Mixer weights, they are damaged, or they cannot be given this
            size or do not fit `like`; says why.
        OSError: a download failed.
    """
    return read(source, num_classes, image_size, patch_size, resize, gelu=gelu, like=like)[:2]


def read(
    source: str | PathLike,
    num_classes: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    patch_size: int | tuple[int, int] | None = None,
    resize: Resize = "auto",
    *,
    gelu: Gelu | None = None,
    like: mixer.MlpMixer | None = None,
) -> Weights:
    """Does the same as `load`, and also returns the settings that say how to use the weights."""
    source = fspath(source)
    wanted = None if image_size is None else as_pair(image_size, "image_size")
    if patch_size is not None:
        patch_size = as_pair(patch_size, "patch_size")
    if num_classes is not None:
        check_value("num_classes", num_classes)
    with open_weights(source) as opened:
        module, layout, entries, prefix = recognise(opened, otherwise=wanted)
        if prefix not in naming.PREFIXES:
            log.warning("%s: its names begin with %s, which is left out", source, prefix)
        settings = lasting_settings(opened, module.num_classes)
        full_head = num_classes in (None, module.num_classes)
        if not full_head:
            module = module.clone(num_classes=0)
            settings.pop("class_names", None)
        is_mixer = isinstance(module, mixer.MlpMixer)
        names = entries if full_head else [n for n in entries if not n.startswith("head/")]
        params = _read(opened, {name: entries[name] for name in names})
    if is_mixer:
        module = module.clone(gelu=gelu or opened.settings.get("gelu") or default_gelu(layout))
        if module.gelu not in GELUS:
            raise ValueError(f"unknown gelu {module.gelu!r}; use one of {', '.join(GELUS)}")
        if (low_high := trained_range(opened)) != RANGE:
            log.info("%s: trained on pixels from %s to %s; its stem is adapted to pixels in "
                     "[-1, 1]", source, *low_high)  # fmt: skip
        params = params | {"stem": fold(params["stem"], *low_high)}
    if unusual := of_runs.kind(opened.config):
        _check_as_trained(f"{source} is {unusual}", module, wanted, patch_size, gelu, like)
    else:
        trained = module
        module = resize_module(trained, wanted, patch_size, resize)
        params = resize_params(params, trained, wanted, patch_size, resize)
        if changes := describe(trained, module):
            log.info("%s: %s", source, changes)
    if num_classes and num_classes != module.num_classes:
        log.warning("%s: a new head for %d classes, all zero", source, num_classes)
        module = module.clone(num_classes=num_classes)
        head = {name: shapes(module)[f"head/{name}"] for name in ("kernel", "bias")}
        params["head"] = {name: np.zeros(shape, np.float32) for name, shape in head.items()}
    if like is not None:
        check_fits(module, like, source)
    return Weights(of_runs.permuted(module, opened.config), params, settings)


def recognise(source: OpenWeights, otherwise: tuple[int, int] | None = None) -> naming.Recognised:
    """Recognises the model of an open source; `otherwise` as for `naming.recognise`.

    The result leaves out a permutation of the pixels.

    Raises:
        ValueError: the model is not a Mixer, or not the one that the source's name promises.
    """
    if source.config.get("architecture", "mixer") != "mixer":
        return _other_model(source)
    made_for = source.settings.get("image_size")
    found = naming.recognise(
        source.arrays,
        source.name,
        as_pair(made_for, f"{source.name}: its image_size") if made_for else None,
        otherwise,
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
    """Returns the form of the GELU to assume for weights in a layout that do not name it."""
    return "exact" if layout == "timm" else "tanh"


def lasting_settings(source: OpenWeights, num_classes: int) -> dict[str, Any]:
    """Returns the settings of a source that metadata.LASTING names, as far as they are known.

    Raises:
        ValueError: a setting is invalid.
    """
    found = {key: source.settings[key] for key in metadata.LASTING if key in source.settings}
    if isinstance(known := found.pop("class_names", None), str):  # the name of a known list
        known = KNOWN_CLASSES[known]().names
        known = known if len(known) == num_classes else None
    if known is not None:
        found["class_names"] = known
    found = metadata.checked(found, num_classes, source.name)
    if "class_names" in found:
        found["class_names"] = tuple(found["class_names"])
    return found


def trained_range(source: OpenWeights) -> tuple[Any, Any]:
    """Returns the values of black and white that a source's stem expects; see `pixel_range.fold`.

    Raises:
        ValueError: the setting is not a pair.
    """
    low_high = source.settings.get("pixel_range", RANGE)
    if not isinstance(low_high, list | tuple) or len(low_high) != 2:
        raise ValueError(f"{source.name}: its pixel_range is {low_high!r}, not two numbers")
    return tuple(low_high)


def check_fits(module: mixer.MlpMixer, like: mixer.MlpMixer, where: str) -> None:
    """Checks that two modules have parameters of the same names and shapes.

    Raises:
        ValueError: they differ; names the arrays.
    """
    if differing := naming.differences(shapes(module), shapes(like)):
        raise ValueError(f"{where} does not fit the model:\n" + "\n".join(differing))


def _other_model(source: OpenWeights) -> naming.Recognised:
    """Recognises the model of a run that is not of a Mixer, by the run's config."""
    head = source.arrays.get("head/bias")
    module = of_runs.other_model(source.config, 0 if head is None else len(head))
    have = {name: array.shape for name, array in source.arrays.items()}
    if differing := naming.differences(have, shapes(module)):
        raise ValueError(
            f"{source.name} does not fit the config of its run:\n" + "\n".join(differing)
        )
    return naming.Recognised(
        module, "linen", {name: naming.Entry(name, lambda array: array) for name in have}, ""
    )


def _check_as_trained(what: str, module: Any, *asked: Any) -> None:
    """Raises ValueError if another size, or what only plain Mixers have, is asked for."""
    image_size, patch_size, gelu, like = asked
    if image_size in (None, module.image_size) and patch_size is gelu is like is None:
        return
    raise ValueError(
        f"{what}, which is read as it was trained only, for "
        f"{module.image_size[0]}x{module.image_size[1]} pixels: without image_size, patch_size, "
        "gelu and like"
    )


def _read(source: OpenWeights, entries: dict[str, naming.Entry]) -> dict[str, Any]:
    """Reads the parameter tree, in float32."""
    params, wrong = {}, []
    for name, entry in entries.items():
        array = source.read(entry.name)
        with np.errstate(over="ignore"):  # too large a float64 becomes infinite, found below
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
