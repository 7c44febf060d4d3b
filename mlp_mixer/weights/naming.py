"""The names and shapes of Mixer weights in files, and what they tell about the model."""

import math
import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from mlp_mixer.models import mixer
from mlp_mixer.models.init import shapes
from mlp_mixer.weights import pre_linen_names, timm_names
from mlp_mixer.weights.npz import Arrays

LAYOUTS = ("linen", "pre-linen", "timm")
_MODULES = {"pre-linen": pre_linen_names, "timm": timm_names}  # Linen names are the published ones
PREFIXES = ("", "params/", "opt/target/")  # the authors' own, beside the optimizer's
# What lies beside the weights in checkpoints: an optimizer's state, and averages of the weights.
_MOMENTS = re.compile(r"(^|[./])(opt\w*|mu|nu|exp_avg\w*|momentum\w*)[./]")
_AVERAGES = re.compile(r"(^|[./])(\w+_)?ema(_\w+)?[./]")
_STEMS = ("stem/kernel", "embedding/kernel", "stem.proj.weight")  # in each layout
NAME_LIMIT = 500  # a Mixer's longest is about 60

# What other models' parameters are called, for those who took the wrong file.
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
    """What the headers of a file say."""

    module: mixer.MlpMixer
    layout: str
    entries: dict[str, Entry]  # by the published name, for every parameter of the module
    prefix: str  # that all of the names in the file have


def recognise(
    arrays: Arrays,
    where: str,
    made_for: tuple[int, int] | None = None,
    otherwise: tuple[int, int] | None = None,
) -> Recognised:
    """The module that arrays fit, and where its parameters are.

    Args:
        arrays: by their name in the file, in any of LAYOUTS. Only shapes and dtypes are looked at.
        where: what to call the file in an error.
        made_for: the (height, width) that the weights were made for. By default the tokens form a
            square, as the arrays cannot say otherwise.
        otherwise: the size to assume where that is not possible.

    Raises:
        ValueError: the arrays are not those of a Mixer; names the ones that are missing, extra,
            misshapen or not floating-point numbers.
    """
    if max(map(len, arrays), default=0) > NAME_LIMIT:
        raise ValueError(f"{where} is not a Mixer: it has names of more than {NAME_LIMIT} letters")
    arrays, prefix = _without_prefix(arrays, where)
    layout = next(
        (name for name, m in _MODULES.items() if any(a.startswith(m.PREFIX) for a in arrays)),
        "linen",
    )
    if layout == "linen":
        entries = {name: Entry(prefix + name, lambda array: array) for name in arrays}
    else:
        entries = _entries(arrays, prefix, layout, where)
        arrays = {name: entry.arrange(arrays[entry.name.removeprefix(prefix)])
                  for name, entry in entries.items()}  # fmt: skip
    module = _architecture(arrays, where, made_for, otherwise)
    expected = shapes(module)
    if problems := differences({name: array.shape for name, array in arrays.items()}, expected):
        raise ValueError(f"{where} is not a whole Mixer:\n" + "\n".join(problems))
    check_floats(arrays, where)
    return Recognised(module, layout, {name: entries[name] for name in expected}, prefix)


def check_floats(arrays: Arrays, where: str) -> None:
    """Raises ValueError, naming the first, if arrays hold other numbers than weights are."""
    for name, array in arrays.items():
        dtype = np.dtype(array.dtype)
        if not np.issubdtype(dtype, np.floating) and dtype.name != "bfloat16":
            raise ValueError(
                f"{where}: {name} holds {dtype}; weights are float64, float32, float16 or bfloat16"
            )


def to_layout(params: Arrays, layout: str) -> Arrays:
    """Parameters by their published names, to the names and axes of a file's layout (views)."""
    if layout == "linen":
        return params
    module = _MODULES[layout]
    return {module.file_name(name): module.rearrange(name, array) for name, array in params.items()}


def differences(
    have: dict[str, tuple[int, ...]], want: dict[str, tuple[int, ...]], limit: int = 12
) -> list[str]:
    """Lines about the parameters that are missing, extra, or of another shape than wanted."""
    lines = [
        f"  {name}: has {have.get(name, 'nothing')}, wanted {want.get(name, 'nothing')}"
        for name in sorted(have.keys() | want.keys(), key=natural)
        if have.get(name) != want.get(name)
    ]
    more = len(lines) - limit
    return lines[:limit] + ([f"  and {more} more"] if more > 0 else [])


def _architecture(
    arrays: Arrays,
    where: str,
    made_for: tuple[int, int] | None,
    otherwise: tuple[int, int] | None,
) -> mixer.MlpMixer:
    """The module whose widths are those of the arrays."""

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


def _without_prefix(arrays: Arrays, where: str, before: str = "") -> tuple[Arrays, str]:
    """The arrays under the prefix that training code gave to a model's names, and that prefix.

    What lies beside the authors' own prefixes is left alone. Any other is found by the stem, and
    beside it there may be an optimizer's state, averages of the weights, and single numbers.

    Raises:
        ValueError: there are several Mixers, or arrays of other things.
    """
    for prefix in filter(None, PREFIXES):
        if any(name.startswith(prefix) for name in arrays):
            return _without_prefix(_inside(arrays, prefix), where, before + prefix)
    ends = [(name, stem) for name in arrays for stem in _STEMS if name.endswith(stem)]
    found = [p for name, stem in ends if (p := name.removesuffix(stem))[-1:] in ("", "/", ".")]
    of_models = [prefix for prefix in found if not _MOMENTS.search(prefix)]
    likely = [prefix for prefix in of_models if not _AVERAGES.search(prefix)] or of_models
    if "" in found or not likely:
        return arrays, before
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
    return _inside(arrays, prefix), before + prefix


def _inside(arrays: Arrays, prefix: str) -> Arrays:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def _entries(arrays: Arrays, prefix: str, layout: str, where: str) -> dict[str, Entry]:
    module = _MODULES[layout]
    entries: dict[str, Entry] = {}
    for name, published in module.published_names(arrays).items():
        if published in entries:
            raise ValueError(f"{where}: {entries[published].name} and {name} are both {published}")
        entries[published] = Entry(prefix + name, partial(module.arrange, published))
    return entries


def _looks_like(arrays: Arrays) -> str:
    for pattern, what in _OTHERS:
        if any(re.search(pattern, name) for name in arrays):
            return f"looks like {what}"
    some = sorted(arrays, key=natural)[:4]
    return f"has {', '.join(some)}" if some else "has no arrays"


def natural(name: str) -> list[int | str]:
    """Sorts MixerBlock_2 before MixerBlock_10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]
