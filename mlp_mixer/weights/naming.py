"""Recognises a Mixer in the arrays of a file, by their names and shapes.

`recognise` takes four steps: it removes the prefix that training code put before all names, tells
the layout, finds the array of every published name, and reads the model's sizes from the shapes.
"""

import math
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import numpy as np

from mlp_mixer.models import mixer
from mlp_mixer.models.init import shapes
from mlp_mixer.weights import pre_linen_names, timm_names
from mlp_mixer.weights.file_layout import LINEN, FileLayout
from mlp_mixer.weights.npz import Arrays

_LAYOUTS = {layout.name: layout for layout in (LINEN, pre_linen_names.LAYOUT, timm_names.LAYOUT)}
LAYOUTS = tuple(_LAYOUTS)
_STEMS = tuple(layout.file_name("stem/kernel") for layout in _LAYOUTS.values())

PREFIXES = ("", "params/", "opt/target/")  # the authors' own, beside the optimizer's
# What lies beside the weights in checkpoints: an optimizer's state, and averages of the weights.
_MOMENTS = re.compile(r"(^|[./])(opt\w*|mu|nu|exp_avg\w*|momentum\w*)[./]")
_AVERAGES = re.compile(r"(^|[./])(\w+_)?ema(_\w+)?[./]")
NAME_LIMIT = 500  # characters; a Mixer's longest name has about 60

# The names of other models' parameters, to tell users what they have instead of a Mixer.
_OTHERS = (
    (
        r"Transformer/encoderblock|encoderblock_\d+/MultiHeadDotProduct",
        "a Vision Transformer (ViT)",
    ),
    (r"blocks\.\d+\.attn\.|encoder\.layer\.\d+\.attention", "a PyTorch Vision Transformer (ViT)"),
    (r"blocks\.\d+\.linear_tokens", "a ResMLP of timm"),
    (r"blocks\.\d+\.mlp_channels\.gate", "a gMLP of timm"),
    (r"standardized_conv2d", "a ResNet of Big Transfer (BiT)"),
    (r"layer[1-4]\.\d+\.(conv|bn)\d|BottleneckResNetBlock", "a ResNet"),
    (r"^(img|txt)/", "a two-tower model such as LiT or SigLIP"),
    (r"(^|/)(opt|opt_state|state)/", "an optimizer's state"),
)


class Entry(NamedTuple):
    """Where a parameter is in a file."""

    name: str  # of the array in the file
    arrange: Callable[[np.ndarray], np.ndarray]  # from its axes there to the published ones


class Recognised(NamedTuple):
    """A model that was recognised in a file, and where its parameters are.

    Attributes:
        module: the model, which the parameters fit.
        layout: the name of the file's layout, one of LAYOUTS.
        entries: by published name, for every parameter of the module.
        prefix: what all of the parameters' names in the file begin with.
    """

    module: mixer.MlpMixer
    layout: str
    entries: dict[str, Entry]
    prefix: str


def recognise(
    arrays: Arrays,
    where: str,
    made_for: tuple[int, int] | None = None,
    otherwise: tuple[int, int] | None = None,
) -> Recognised:
    """Finds the module that arrays fit, and the array of each of its parameters.

    Args:
        arrays: by name in the file, in any of LAYOUTS. Only shapes and dtypes are read.
        where: what to call the file in an error.
        made_for: (height, width) in pixels that the weights were made for. By default a square
            image is assumed, as the arrays cannot say otherwise.
        otherwise: the size to assume if the number of tokens is not a square.

    Raises:
        ValueError: the arrays are not those of a Mixer; names the ones that are missing, extra,
            misshapen or not floating-point numbers.
    """
    if max(map(len, arrays), default=0) > NAME_LIMIT:
        raise ValueError(f"{where} is not a Mixer: it has names of more than {NAME_LIMIT} letters")
    prefix = _find_prefix(arrays, where)
    arrays = _under(prefix, arrays)
    layout = _layout_of(arrays)
    in_file = _in_file(arrays, layout, prefix, where)
    published = {name: layout.arrange(name, arrays[own]) for name, own in in_file.items()}
    module = _module_of(published, where, made_for, otherwise)
    expected = shapes(module)
    have = {name: array.shape for name, array in published.items()}
    if problems := differences(have, expected):
        raise ValueError(f"{where} is not a whole Mixer:\n" + "\n".join(problems))
    check_floats(published, where)
    entries = {
        name: Entry(prefix + in_file[name], partial(layout.arrange, name)) for name in expected
    }
    return Recognised(module, layout.name, entries, prefix)


def check_floats(arrays: Arrays, where: str) -> None:
    """Raises ValueError, naming the first, if arrays do not hold floating-point numbers."""
    for name, array in arrays.items():
        dtype = np.dtype(array.dtype)
        if not np.issubdtype(dtype, np.floating) and dtype.name != "bfloat16":
            raise ValueError(
                f"{where}: {name} holds {dtype}; weights are float64, float32, float16 or bfloat16"
            )


def to_layout(params: Arrays, layout: str) -> Arrays:
    """Converts parameters, by published name, to the names and axes of a file layout (views)."""
    to = _LAYOUTS[layout]
    return {to.file_name(name): to.rearrange(name, array) for name, array in params.items()}


def differences(
    have: dict[str, tuple[int, ...]], want: dict[str, tuple[int, ...]], limit: int = 12
) -> list[str]:
    """Lists parameters that are missing, extra or of the wrong shape, a line each up to a limit."""
    lines = [
        f"  {name}: has {have.get(name, 'nothing')}, wanted {want.get(name, 'nothing')}"
        for name in sorted(have.keys() | want.keys(), key=natural)
        if have.get(name) != want.get(name)
    ]
    more = len(lines) - limit
    return lines[:limit] + ([f"  and {more} more"] if more > 0 else [])


def natural(name: str) -> list[int | str]:
    """Returns a key that sorts MixerBlock_2 before MixerBlock_10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _find_prefix(arrays: Arrays, where: str) -> str:
    """Finds the prefix that training code gave to all of a model's names.

    What lies beside the authors' own prefixes is ignored. Any other prefix is found by the stem;
    beside it may be an optimizer's state, averages of the weights, and single numbers.

    Raises:
        ValueError: there are several Mixers, or arrays of other things.
    """
    for known in filter(None, PREFIXES):
        if any(name.startswith(known) for name in arrays):
            return known + _find_prefix(_under(known, arrays), where)
    ends = [(name, stem) for name in arrays for stem in _STEMS if name.endswith(stem)]
    found = [p for name, stem in ends if (p := name.removesuffix(stem))[-1:] in ("", "/", ".")]
    of_models = [prefix for prefix in found if not _MOMENTS.search(prefix)]
    likely = [prefix for prefix in of_models if not _AVERAGES.search(prefix)] or of_models
    if "" in found or not likely:
        return ""
    if len(likely) > 1:
        raise ValueError(f"{where} holds several Mixers, under {' and '.join(likely)}; keep one")
    (prefix,) = likely
    others = [
        name
        for name, array in arrays.items()
        if array.ndim and not (name.startswith(prefix) or _MOMENTS.search(name)
                               or _AVERAGES.search(name))
    ]  # fmt: skip
    if others:
        raise ValueError(
            f"{where} holds a Mixer under {prefix}, and beside it {', '.join(others[:4])}"
            f"{' and others' if len(others) > 4 else ''}"
        )
    return prefix


def _under(prefix: str, arrays: Arrays) -> Arrays:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def _layout_of(names: Iterable[str]) -> FileLayout:
    """Tells the layout by its prefix; the published one has none and is the default."""
    marked = (layout for layout in _LAYOUTS.values() if layout.prefix)
    return next(
        (layout for layout in marked if any(name.startswith(layout.prefix) for name in names)),
        LINEN,
    )


def _in_file(arrays: Arrays, layout: FileLayout, prefix: str, where: str) -> dict[str, str]:
    """Returns the name in the file, without its prefix, by published name."""
    found: dict[str, str] = {}
    for name, published in layout.published_names(arrays).items():
        if published in found:
            raise ValueError(f"{where}: {prefix}{found[published]} and {name} are both {published}")
        found[published] = name
    return found


def _module_of(
    arrays: Arrays,
    where: str,
    made_for: tuple[int, int] | None,
    otherwise: tuple[int, int] | None,
) -> mixer.MlpMixer:
    """Makes the module whose widths are those of published arrays."""

    def shape(name: str, ndim: int) -> tuple[int, ...]:
        if name not in arrays or arrays[name].ndim != ndim or 0 in arrays[name].shape:
            have = arrays[name].shape if name in arrays else "missing"
            raise ValueError(f"{where} is not a Mixer: {name} is {have}; it {_looks_like(arrays)}")
        return arrays[name].shape

    ph, pw, image_channels, hidden_dim = shape("stem/kernel", 4)
    tokens, tokens_mlp_dim = shape("MixerBlock_0/token_mixing/Dense_0/kernel", 2)
    _, channels_mlp_dim = shape("MixerBlock_0/channel_mixing/Dense_0/kernel", 2)
    blocks = {m[1] for name in arrays if (m := re.match(r"MixerBlock_(\d+)/", name))}
    side = math.isqrt(tokens)
    if made_for is None:
        made_for = (side * ph, side * pw) if side * side == tokens else otherwise
    if made_for is None or (made_for[0] // ph) * (made_for[1] // pw) != tokens:
        raise ValueError(
            f"{where}: the weights are for {tokens} patches of {ph}x{pw}, which does not make "
            f"{'a square image' if made_for is None else f'{made_for[0]}x{made_for[1]} pixels'}; "
            "give the image size that they were made for"
        )
    return mixer.create(
        num_classes=shape("head/kernel", 2)[1] if "head/kernel" in arrays else 0,
        image_size=made_for,
        patch_size=(ph, pw),
        num_blocks=len(blocks),
        hidden_dim=hidden_dim,
        tokens_mlp_dim=tokens_mlp_dim,
        channels_mlp_dim=channels_mlp_dim,
        image_channels=image_channels,
    )


def _looks_like(arrays: Arrays) -> str:
    for pattern, what in _OTHERS:
        if any(re.search(pattern, name) for name in arrays):
            return f"looks like {what}"
    some = sorted(arrays, key=natural)[:4]
    return f"has {', '.join(some)}" if some else "has no arrays"
