"""The names and shapes of Mixer weights in files, and what they tell about the model."""

import math
import re
from typing import Any

import numpy as np
from flax import traverse_util

from mlp_mixer.models import mixer

Arrays = dict[str, np.ndarray]


def shapes(module: mixer.MlpMixer) -> dict[str, tuple[int, ...]]:
    """Every parameter's name and shape; the same as `module.init` makes, without tracing it."""
    s, c = math.prod(module.grid), module.hidden_dim
    named = {"stem/kernel": (*module.patch_size, module.image_channels, c), "stem/bias": (c,)}
    for i in range(module.num_blocks):
        for norm in ("LayerNorm_0", "LayerNorm_1"):
            named |= _norm(f"MixerBlock_{i}/{norm}", c)
        for mlp, outer, inner in (
            ("token_mixing", s, module.tokens_mlp_dim),
            ("channel_mixing", c, module.channels_mlp_dim),
        ):
            named |= _dense(f"MixerBlock_{i}/{mlp}/Dense_0", outer, inner)
            named |= _dense(f"MixerBlock_{i}/{mlp}/Dense_1", inner, outer)
    named |= _norm("pre_head_layer_norm", c)
    return named | (_dense("head", c, module.num_classes) if module.num_classes else {})


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}/scale": (width,), f"{name}/bias": (width,)}


def _dense(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}/kernel": (inputs, outputs), f"{name}/bias": (outputs,)}


def to_tree(
    arrays: Arrays,
    where: str,
    made_for: tuple[int, int] | None = None,
    otherwise: tuple[int, int] | None = None,
) -> tuple[mixer.MlpMixer, dict[str, Any]]:
    """Arrays of a file to the module they fit and its parameter tree.

    Args:
        arrays: by their name in the file; Linen or pre-Linen names, float of any width.
        where: what to call the file in an error.
        made_for: the (height, width) that the weights were made for. By default the tokens form a
            square, as the arrays cannot say otherwise.
        otherwise: the size to assume where that is not possible.

    Returns:
        (module, params): an MlpMixer, and its parameters as a nested dict of float32 arrays.

    Raises:
        ValueError: the arrays are not those of a Mixer; names the ones that are missing, extra or
            misshapen.
    """
    arrays = _without_prefix(arrays)
    if any(name.startswith("Mixer/") for name in arrays):
        arrays = _from_pre_linen(arrays)
    module = _architecture(arrays, where, made_for, otherwise)
    expected = shapes(module)
    if problems := differences({name: array.shape for name, array in arrays.items()}, expected):
        raise ValueError(f"{where} is not a whole Mixer:\n" + "\n".join(problems))
    for name, array in arrays.items():
        if not np.issubdtype(array.dtype, np.floating):
            raise ValueError(f"{where}: {name} holds {array.dtype}, not floating-point numbers")
    return module, traverse_util.unflatten_dict(
        {name: arrays[name].astype(np.float32, copy=False) for name in expected}, sep="/"
    )


def differences(
    have: dict[str, tuple[int, ...]], want: dict[str, tuple[int, ...]], limit: int = 12
) -> list[str]:
    """Lines about the parameters that are missing, extra, or of another shape than wanted."""
    lines = [
        f"  {name}: has {have.get(name, 'nothing')}, wanted {want.get(name, 'nothing')}"
        for name in sorted(have.keys() | want.keys(), key=_natural)
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
            some = ", ".join(sorted(arrays, key=_natural)[:4]) or "no arrays"
            raise ValueError(
                f"{where} is not a Mixer: {name} is {_shape(arrays, name)}; the file has {some}"
            )
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


def _without_prefix(arrays: Arrays) -> Arrays:
    """Training code of the authors saves the tree under one of these."""
    for prefix in ("params/", "opt/target/"):
        if any(name.startswith(prefix) for name in arrays):
            return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    return arrays


def _from_pre_linen(arrays: Arrays) -> Arrays:
    """Names and shapes of the layout that older files of the authors use, to those of Linen."""
    norms: dict[str, list[str]] = {}  # the normalisations of each block; numbered with gaps
    for name in sorted(arrays, key=_natural):
        if m := re.match(r"Mixer/encoderblock_(\d+)/(LayerNorm_\d+)/scale$", name):
            norms.setdefault(m[1], []).append(m[2])

    def mlp(m: re.Match) -> str:
        return f"MixerBlock_{m[1]}/{m[2]}_mixing/Dense_{int(m[4]) - 1}/{m[3]}"

    def norm(m: re.Match) -> str:
        of_block = norms.get(m[1], [])
        number = of_block.index(m[2]) if m[2] in of_block else m[2]
        return f"MixerBlock_{m[1]}/LayerNorm_{number}/"

    block = r"^Mixer/encoderblock_(\d+)/"
    rules = (
        (block + r"(token|channel)_mixing_phase_\d+/(kernel|bias)([12])$", mlp),
        (block + r"(LayerNorm_\d+)/", norm),
        (r"^Mixer/encoder_norm/", "pre_head_layer_norm/"),
        (r"^embedding/", "stem/"),
    )
    renamed = {}
    for name, array in arrays.items():
        new = name
        for pattern, replacement in rules:
            new = re.sub(pattern, replacement, new)
        if "_mixing/" in new:
            renamed[new] = _squeeze(array, 2 if new.endswith("kernel") else 1)
        else:
            renamed[new] = array
    return renamed


def _squeeze(array: np.ndarray, ndim: int) -> np.ndarray:
    """Drops singleton axes, first ones first, until `ndim` are left."""
    while array.ndim > ndim and 1 in array.shape:
        array = np.squeeze(array, axis=array.shape.index(1))
    return array


def _shape(arrays: Arrays, name: str) -> Any:
    return arrays[name].shape if name in arrays else "missing"


def _natural(name: str) -> list[Any]:
    """Sorts MixerBlock_2 before MixerBlock_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
