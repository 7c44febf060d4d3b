"""Weights of one input size for another.

Only the token-mixing MLPs depend on the input size: Dense_0 has a row and Dense_1 a column for each
token (patch). The paper (section 3 and appendix C) goes to an image K times as large in this way:
cut the image into K x K parts of the old size; let the new token MLP, K^2 times as wide, apply the
old one to each part by itself. Its kernels are block-diagonal with K^2 copies of the old ones. The
new model thus sees each part exactly as the old model would, and fine-tuning learns what happens
between parts. Height and width may have different factors.

The paper puts the tokens of a part next to each other. All released code, and this one, keeps them
in raster order over the whole image, so rows and columns are permuted accordingly.
"""

from typing import Any

import numpy as np

from mlp_mixer.models.mixer import MlpMixer, as_pair


def factors(module: MlpMixer, image_size: int | tuple[int, int]) -> tuple[int, int]:
    """By how much `image_size` is larger than the module's, along height and width.

    Raises:
        ValueError: it is not a whole multiple.
    """
    new, old = as_pair(image_size), module.image_size
    if any(n < o or n % o for n, o in zip(new, old, strict=True)):
        raise ValueError(
            f"image size {new[0]}x{new[1]} is not a whole multiple of the {old[0]}x{old[1]} that "
            f"the weights were made for; the next larger one is {2 * old[0]}x{2 * old[1]}"
        )
    return new[0] // old[0], new[1] // old[1]


def tile_module(module: MlpMixer, image_size: int | tuple[int, int]) -> MlpMixer:
    """The module for a whole multiple of its image size; its token MLPs are that much wider."""
    kh, kw = factors(module, image_size)
    return module.clone(
        image_size=as_pair(image_size), tokens_mlp_dim=module.tokens_mlp_dim * kh * kw
    )


def tile_params(
    params: dict[str, Any], module: MlpMixer, image_size: int | tuple[int, int]
) -> dict[str, Any]:
    """Parameters of `module` for `tile_module(module, image_size)`.

    Without any training, the pooled features of a large image are the mean of those that the old
    parameters give for its parts.
    """
    kh, kw = factors(module, image_size)
    if (kh, kw) == (1, 1):
        return params
    copies, identity = kh * kw, np.eye(kh * kw, dtype=np.float32)
    # raster[i]: where raster token i of the large image stands when parts come one after another.
    gh, gw = module.grid
    part_major = np.arange(copies * gh * gw).reshape(kh, gh, kw, gw).transpose(0, 2, 1, 3).ravel()
    raster = np.argsort(part_major)

    def tile(block: dict[str, Any]) -> dict[str, Any]:
        d0, d1 = block["token_mixing"]["Dense_0"], block["token_mixing"]["Dense_1"]
        tiled = {
            "Dense_0": {
                "kernel": np.kron(identity, d0["kernel"])[raster],
                "bias": np.tile(d0["bias"], copies),
            },
            "Dense_1": {
                "kernel": np.kron(identity, d1["kernel"])[:, raster],
                "bias": np.tile(d1["bias"], copies)[raster],
            },
        }
        return block | {"token_mixing": tiled}

    return {
        name: tile(child) if name.startswith("MixerBlock_") else child
        for name, child in params.items()
    }
