"""Adapts weights to another input size: `resize_module` and `resize_params`.

Only the token-mixing MLPs depend on the input size: Dense_0 has a row and Dense_1 a column for each
token (patch). There are two ways to adapt them to another grid of patches:

"tile" is the paper's (section 3 and appendix C), for an image K times as large: cut it into K x K
parts of the old size, and let the new token-mixing MLP, K^2 times as wide, apply the old one to
each part separately. Its kernels are block-diagonal with K^2 copies of the old ones. The new model
thus sees each part exactly as the old model would, and fine-tuning learns what happens between
parts. Height and width may have different factors. The paper puts the tokens of a part next to each
other; all released code, and this one, keeps them in raster order over the whole image, so rows and
columns are permuted accordingly.

"resample" keeps the hidden units and resamples their filters over the new grid, which may be of any
size: see `resample`. The new model sees the whole image as the old model would.

"auto" tiles if the patch size is unchanged and both sides of the image are whole multiples of the
old ones, which the paper found best, and resamples otherwise.

For another patch size the stem is resized as well, first and on the same grid, so that the new
model sees an image of the new size as the old model would see it shrunk to the old size.
"""

from typing import Any, Literal

import numpy as np

from mlp_mixer.models.checks import as_pair
from mlp_mixer.models.mixer import MlpMixer
from mlp_mixer.weights import resample

SCHEMES = ("auto", "tile", "resample")

Size = int | tuple[int, int]
Resize = Literal["auto", "tile", "resample"]


def resize(
    module: MlpMixer,
    params: dict[str, Any],
    image_size: Size | None = None,
    patch_size: Size | None = None,
    *,
    scheme: Resize = "auto",
) -> tuple[MlpMixer, dict[str, Any]]:
    """Adapts a Mixer and its parameters to another input size.

    Args:
        module: the model as it was trained.
        params: its parameters.
        image_size: in pixels, one number or (height, width); None for the module's.
        patch_size: likewise.
        scheme: "auto", "tile" or "resample"; see above.

    Returns:
        (module, params) of the new size.

    Raises:
        ValueError: the scheme is unknown, the patches do not tile the image, or the scheme is
            "tile" and the new grid is not a whole multiple of the old one.
    """
    return (
        resize_module(module, image_size, patch_size, scheme),
        resize_params(params, module, image_size, patch_size, scheme),
    )


def resize_module(
    module: MlpMixer,
    image_size: Size | None = None,
    patch_size: Size | None = None,
    resize: Resize = "auto",
) -> MlpMixer:
    """Returns the module for another input size; only "tile" changes a width, tokens_mlp_dim.

    Args:
        module: the model as it was trained.
        image_size: in pixels, one number or (height, width); None for the module's.
        patch_size: likewise.
        resize: "auto", "tile" or "resample"; see above.

    Raises:
        ValueError: as for `resize`.
    """
    resized = _with_sizes(module, image_size, patch_size)
    kh, kw = _copies(module, resized, resize)
    return resized.clone(tokens_mlp_dim=module.tokens_mlp_dim * kh * kw)


def resize_params(
    params: dict[str, Any],
    module: MlpMixer,
    image_size: Size | None = None,
    patch_size: Size | None = None,
    resize: Resize = "auto",
) -> dict[str, Any]:
    """Adapts parameters of `module` to the module that `resize_module` returns for these arguments.

    Arrays that do not depend on the size are passed on unchanged: with the module's own size, all.

    Raises:
        ValueError: as for `resize`.
    """
    resized = _with_sizes(module, image_size, patch_size)
    copies = _copies(module, resized, resize)
    if resized.patch_size != module.patch_size:
        kernel = resample.stem(params["stem"]["kernel"], resized.patch_size)
        params = params | {"stem": params["stem"] | {"kernel": kernel}}
    if resized.grid == module.grid:
        return params
    if copies == (1, 1):

        def change(mlp: dict[str, Any]) -> dict[str, Any]:
            return resample.token_mixing(mlp, module.grid, resized.grid)
    else:
        raster = _raster(module.grid, copies)

        def change(mlp: dict[str, Any]) -> dict[str, Any]:
            return _tile(mlp, raster, copies[0] * copies[1])

    return {
        name: child | {"token_mixing": change(child["token_mixing"])}
        if name.startswith("MixerBlock_")
        else child
        for name, child in params.items()
    }


def describe(module: MlpMixer, resized: MlpMixer) -> str:
    """Says in a few words what `resize_module` did; "" if it did nothing."""
    done = []
    if resized.patch_size != module.patch_size:
        done.append(f"stem resized from {_x(module.patch_size)} to {_x(resized.patch_size)} pixels")
    if resized.grid != module.grid:
        tiled = resized.tokens_mlp_dim != module.tokens_mlp_dim
        done.append(
            f"token mixing {'tiled' if tiled else 'resampled'} from {_x(module.grid)} to "
            f"{_x(resized.grid)} patches"
        )
    return ", ".join(done)


def _with_sizes(module: MlpMixer, image_size: Size | None, patch_size: Size | None) -> MlpMixer:
    resized = module.clone(
        image_size=module.image_size if image_size is None else as_pair(image_size, "image_size"),
        patch_size=module.patch_size if patch_size is None else as_pair(patch_size, "patch_size"),
    )
    try:
        resized.grid  # noqa: B018 - raises where the patches do not tile the image
    except ValueError as error:
        raise ValueError(f"the weights are for {_sizes(module)}, and {error}") from error
    return resized


def _copies(module: MlpMixer, resized: MlpMixer, resize: str) -> tuple[int, int]:
    """Returns the copies of the MLP that "tile" makes along (height, width); (1, 1) for none."""
    if resize not in SCHEMES:
        raise ValueError(f"unknown resize {resize!r}; use {', '.join(SCHEMES)}")
    (h, w), (new_h, new_w) = module.grid, resized.grid
    whole = new_h % h == 0 and new_w % w == 0
    if resize == "tile" and not whole:
        raise ValueError(
            f"cannot tile weights for {_sizes(module)} to {_sizes(resized)}: {_x(resized.grid)} "
            f'patches are no whole multiple of {_x(module.grid)}; use resize="resample"'
        )
    same_patches = resized.patch_size == module.patch_size
    if resize == "tile" or (resize == "auto" and whole and same_patches):
        return new_h // h, new_w // w
    return 1, 1


def _raster(grid: tuple[int, int], copies: tuple[int, int]) -> np.ndarray:
    """Returns for each token, in raster order, its place when parts come one after another."""
    (gh, gw), (kh, kw) = grid, copies
    part_major = np.arange(kh * gh * kw * gw).reshape(kh, gh, kw, gw).transpose(0, 2, 1, 3).ravel()
    return np.argsort(part_major)


def _tile(mlp: dict[str, Any], raster: np.ndarray, copies: int) -> dict[str, Any]:
    d0, d1 = mlp["Dense_0"], mlp["Dense_1"]
    identity = np.eye(copies, dtype=np.float32)
    return {
        "Dense_0": {
            "kernel": np.kron(identity, d0["kernel"])[raster],
            "bias": np.tile(d0["bias"], copies),
        },
        "Dense_1": {
            "kernel": np.kron(identity, d1["kernel"])[:, raster],
            "bias": np.tile(d1["bias"], copies)[raster],
        },
    }


def _sizes(module: MlpMixer) -> str:
    return f"{_x(module.image_size)} pixels in patches of {_x(module.patch_size)}"


def _x(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
