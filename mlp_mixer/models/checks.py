"""What the constructors and the models refuse, each in one clear error."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def as_pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """One number or (height, width) as (height, width)."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def named_sizes(
    variant: str | None, model: str, sizes: dict[str, dict[str, int]], variants: tuple[str, ...]
) -> dict[str, Any]:
    """The widths and the patch_size of SIZE/PATCH, such as "B/16"; nothing for None."""
    if variant is None:
        return {}
    size, _, patch = variant.partition("/")
    if size not in sizes or not patch.isdigit():
        raise ValueError(
            f"unknown {model} variant {variant!r}; use one of {', '.join(variants)}, "
            f"or any SIZE/PATCH with SIZE of {', '.join(sizes)}"
        )
    return sizes[size] | {"patch_size": int(patch)}


def tile(image_size: tuple[int, int], patch_size: tuple[int, int]) -> tuple[int, int]:
    """The number of patches along the height and the width.

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
    """Refuses images that are not float of the (height, width, channels) that a model expects."""
    if images.ndim != 4 or images.shape[1:] != expected:
        raise ValueError(
            f"images of shape {images.shape} do not fit a {model} made for [n, "
            f"{', '.join(map(str, expected))}] (height, width, channels); resize the images{advice}"
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"images must be float in [-1, 1], got {images.dtype}; x / 127.5 - 1?")


def check_fields(module: type[nn.Module], fields: dict[str, Any], required: set[str]) -> None:
    """Refuses fields that a module does not have, and the lack of those that it needs."""
    known = {k for k in module.__dataclass_fields__ if k not in ("parent", "name")}
    if wrong := sorted(fields.keys() - known) or sorted(required - fields.keys()):
        what = "unknown field" if set(wrong) - known else "without a variant, create() also needs"
        raise ValueError(
            f"{what} {', '.join(wrong)}; {module.__name__} has {', '.join(sorted(known))}"
        )
