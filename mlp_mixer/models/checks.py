"""Checks of the models' fields and inputs, each with one clear error."""

import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


def _is_whole(value: Any, low: int) -> bool:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole and value >= low


def _is_number(value: Any) -> bool:
    real = isinstance(value, int | float | np.integer | np.floating)
    return real and not isinstance(value, bool) and math.isfinite(value)


def _is_float_type(value: Any) -> bool:
    try:
        return value is not None and jnp.issubdtype(jnp.dtype(value), jnp.floating)
    except TypeError:
        return False


_COUNT = ("a whole number from 1 on", partial(_is_whole, low=1))
_COUNTS = ("image_channels", "num_blocks", "hidden_dim", "tokens_mlp_dim", "channels_mlp_dim",
           "mlp_dim", "num_heads", "width", "groups")  # fmt: skip
# What each field of the models may be: in words, and as a test of a value.
_MAY_BE: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(_COUNTS, _COUNT),
    "num_classes": ("a whole number from 0 on", partial(_is_whole, low=0)),
    "stages": (
        "a tuple of whole numbers from 1 on",
        lambda value: isinstance(value, tuple) and bool(value) and all(map(_COUNT[1], value)),
    ),
    # At 1 a layer would drop everything, and its gradient would be 0 / 0.
    "dropout_rate": ("a number from 0 to under 1", lambda x: _is_number(x) and 0 <= x < 1),
    "stoch_depth": ("a number from 0 to 1", lambda x: _is_number(x) and 0 <= x <= 1),
    "head_bias": ("a finite number", _is_number),
    "gelu": ("a text", lambda value: isinstance(value, str)),
    **dict.fromkeys(
        ("remat", "stoch_depth_rescale"),
        ("True or False", lambda value: isinstance(value, bool | np.bool_)),
    ),
    "dtype": ("a type of floats such as jnp.bfloat16", _is_float_type),
}


def check_value(name: str, value: Any) -> None:
    """Raises ValueError if a model's field `name` cannot have this value."""
    words, is_possible = _MAY_BE.get(name, ("", lambda value: True))
    if not is_possible(value):
        raise ValueError(f"{name} must be {words}, got {value!r}")


def as_pair(size: int | tuple[int, int], name: str = "a size") -> tuple[int, int]:
    """Returns a size, which may be one number for a square, as (height, width).

    Args:
        size: a Python or NumPy integer, or a tuple, list or array of two.
        name: what to call the size in an error.

    Raises:
        ValueError: the size is something else, or is not positive.
    """
    pair = size.tolist() if isinstance(size, np.ndarray) else size
    pair = (pair, pair) if isinstance(pair, int | np.integer) else pair
    if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(map(_COUNT[1], pair)):
        raise ValueError(
            f"{name} must be pixels, such as 224 or (160, 256) for height and width, got {size!r}"
        )
    return int(pair[0]), int(pair[1])


def named_sizes(
    variant: str | None, model: str, sizes: dict[str, dict[str, int]], variants: tuple[str, ...]
) -> dict[str, Any]:
    """Returns the widths and the patch_size of a variant such as "B/16"; nothing for None.

    Raises:
        ValueError: the variant is not of the form SIZE/PATCH, or SIZE is unknown.
    """
    if variant is None:
        return {}
    size, _, patch = str(variant).partition("/")
    if size not in sizes or not re.fullmatch("[1-9][0-9]*", patch):
        raise ValueError(
            f"unknown {model} variant {variant!r}; use one of {', '.join(variants)}, "
            f"or any SIZE/PATCH with SIZE of {', '.join(sizes)}"
        )
    return sizes[size] | {"patch_size": int(patch)}


def name_of_sizes(module: Any, sizes: dict[str, dict[str, int]]) -> str | None:
    """Returns the variant that a module's widths and patch_size are those of, or None."""
    patch = module.patch_size[0]
    for size, widths in sizes.items():
        same = all(getattr(module, name) == width for name, width in widths.items())
        if same and module.patch_size == (patch, patch):
            return f"{size}/{patch}"
    return None


def tile(image_size: tuple[int, int], patch_size: tuple[int, int]) -> tuple[int, int]:
    """Returns the number of patches along the height and the width.

    Raises:
        ValueError: the patches do not tile the image.
    """
    (h, w), (ph, pw) = image_size, patch_size
    if min(h, w, ph, pw) < 1 or h % ph or w % pw:
        raise ValueError(
            f"image size {h}x{w} (height x width) is not tiled by patches of {ph}x{pw}; both "
            f"sides must be multiples, for example {max(1, round(h / max(ph, 1))) * ph}"
            f"x{max(1, round(w / max(pw, 1))) * pw}"
        )
    return h // ph, w // pw


def check_images(
    images: jax.Array, expected: tuple[int, ...], model: str, advice: str = ""
) -> None:
    """Raises ValueError unless images are float [n, *expected], with expected (h, w, c)."""
    if images.ndim != 4 or images.shape[1:] != expected:
        raise ValueError(
            f"images of shape {images.shape} do not fit a {model} made for [n, "
            f"{', '.join(map(str, expected))}] (height, width, channels); resize the images{advice}"
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"images must be float in [-1, 1], got {images.dtype}; x / 127.5 - 1?")


def checked_fields(
    module: type[nn.Module], fields: dict[str, Any], required: set[str]
) -> dict[str, Any]:
    """Returns the fields for a module, with sizes as pairs and NumPy numbers as Python's.

    Raises:
        ValueError: a field is unknown, missing or invalid.
    """
    known = {k for k in module.__dataclass_fields__ if k not in ("parent", "name")}
    if wrong := sorted(fields.keys() - known) or sorted(required - fields.keys()):
        what = "unknown field" if set(wrong) - known else "without a variant, create() also needs"
        raise ValueError(
            f"{what} {', '.join(wrong)}; {module.__name__} has {', '.join(sorted(known))}"
        )
    fields = dict(fields)
    for name, value in fields.items():
        if name in ("image_size", "patch_size"):
            fields[name] = as_pair(value, name)
        elif name == "stages" and isinstance(value, list):
            fields[name] = tuple(value)
        elif isinstance(value, np.generic):
            fields[name] = value.item()
        check_value(name, fields[name])
    return fields
