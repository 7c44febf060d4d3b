"""Stand-ins for the published checkpoint files, which cannot be downloaded everywhere.

They have the same names, shapes and number type as the published `.npz` files. Each array depends
on its parameter's name and shape only, so that the layouts of a variant hold the same numbers and
give the same logits. golden/logits.json has those of an independent implementation for
`image_batch`. Needs NumPy only, and nothing of the package that is tested.
"""

import zlib

import numpy as np

SIZES = {  # blocks, hidden_dim, tokens_mlp_dim, channels_mlp_dim
    "S": (8, 512, 256, 2048),
    "B": (12, 768, 384, 3072),
    "L": (24, 1024, 512, 4096),
    "H": (32, 1280, 640, 5120),
}


def linen_shapes(variant: str, num_classes: int = 1000, resolution: int = 224) -> dict:
    """The shape of each parameter of a variant such as "B/16", by its name in Linen's layout."""
    size, patch = variant.split("/")
    patch = int(patch)
    blocks, hidden, tokens_dim, channels_dim = SIZES[size]
    tokens = (resolution // patch) ** 2
    shapes = {"stem/kernel": (patch, patch, 3, hidden), "stem/bias": (hidden,)}
    for i in range(blocks):
        block = f"MixerBlock_{i}"
        for norm in ("LayerNorm_0", "LayerNorm_1"):
            shapes[f"{block}/{norm}/scale"] = (hidden,)
            shapes[f"{block}/{norm}/bias"] = (hidden,)
        for mlp, outer, inner in (
            ("token_mixing", tokens, tokens_dim),
            ("channel_mixing", hidden, channels_dim),
        ):
            shapes[f"{block}/{mlp}/Dense_0/kernel"] = (outer, inner)
            shapes[f"{block}/{mlp}/Dense_0/bias"] = (inner,)
            shapes[f"{block}/{mlp}/Dense_1/kernel"] = (inner, outer)
            shapes[f"{block}/{mlp}/Dense_1/bias"] = (outer,)
    shapes["pre_head_layer_norm/scale"] = (hidden,)
    shapes["pre_head_layer_norm/bias"] = (hidden,)
    if num_classes:
        shapes["head/kernel"] = (hidden, num_classes)
        shapes["head/bias"] = (num_classes,)
    return shapes


def value(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The float32 array of a parameter, by its name in Linen's layout."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    noise = rng.standard_normal(shape, dtype=np.float32)
    if name.endswith("scale"):
        return 1 + 0.1 * noise
    if name.endswith("bias"):
        return 0.1 * noise
    return noise / np.sqrt(np.float32(np.prod(shape[:-1])))


def pre_linen_name(name: str) -> str:
    """The name that a parameter had before Linen."""
    parts = name.split("/")
    if parts[0] == "stem":
        return f"embedding/{parts[1]}"
    if parts[0] == "pre_head_layer_norm":
        return f"Mixer/encoder_norm/{parts[1]}"
    if parts[0] == "head":
        return name
    block = parts[0].replace("MixerBlock_", "Mixer/encoderblock_")
    if parts[1].startswith("LayerNorm"):
        return f"{block}/{parts[1]}/{parts[2]}"
    number = int(parts[2][-1]) + 1
    return f"{block}/{parts[1]}_phase_0/{parts[3]}{number}"


def image_batch(n: int = 2, resolution: int = 224) -> np.ndarray:
    """The images that the golden logits are of: float32 in [-1, 1], [n, height, width, 3]."""
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (n, resolution, resolution, 3)).astype(np.float32)


def write(
    path, variant: str, layout: str = "linen", num_classes: int = 1000, resolution: int = 224
) -> None:
    """Writes a variant's file in the layout "linen" or "pre-linen"."""
    arrays = {}
    for name, shape in linen_shapes(variant, num_classes, resolution).items():
        array = value(name, shape)
        if layout == "linen":
            arrays[name] = array
        else:  # in these files the arrays of MLPs have a leading axis of one
            arrays[pre_linen_name(name)] = array[None] if "_mixing/" in name else array
    np.savez(path, **arrays)
