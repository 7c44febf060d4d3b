"""The layout that timm (github.com/huggingface/pytorch-image-models) gives to a Mixer's parameters.

PyTorch keeps the kernel of a Dense layer as [outputs, inputs] and that of a convolution as
[outputs, inputs, height, width], so kernels are transposed; no number changes.

timm computes the exact GELU. Its models `mixer_{b,l}16_224.goog_in21k_ft_in1k` have weights trained
on ImageNet-1k alone, whatever the tag says; see docs/reference/weights.md.
"""

import re
from collections.abc import Iterable

import numpy as np

from mlp_mixer.weights.file_layout import FileLayout

# timm's modules and ours; {} is the number of the block.
MODULES = {
    "stem.proj": "stem",
    "blocks.{}.norm1": "MixerBlock_{}/LayerNorm_0",
    "blocks.{}.mlp_tokens.fc1": "MixerBlock_{}/token_mixing/Dense_0",
    "blocks.{}.mlp_tokens.fc2": "MixerBlock_{}/token_mixing/Dense_1",
    "blocks.{}.norm2": "MixerBlock_{}/LayerNorm_1",
    "blocks.{}.mlp_channels.fc1": "MixerBlock_{}/channel_mixing/Dense_0",
    "blocks.{}.mlp_channels.fc2": "MixerBlock_{}/channel_mixing/Dense_1",
    "norm": "pre_head_layer_norm",
    "head": "head",
}
OURS = {ours: theirs for theirs, ours in MODULES.items()}


def published_names(names: Iterable[str]) -> dict[str, str]:
    """Maps timm's names to the published ones; one that no Mixer has maps to itself."""
    return {name: _published_name(name) for name in names}


def file_name(published: str) -> str:
    """Returns timm's name of a parameter.

    Raises:
        ValueError: it is not a Mixer's parameter.
    """
    module, _, parameter = published.rpartition("/")
    name = _renamed(module, OURS)
    if name is None:
        raise ValueError(f"timm has no name for {published}")
    return f"{name}.{'bias' if parameter == 'bias' else 'weight'}"


def arrange(published: str, array: np.ndarray) -> np.ndarray:
    """Puts the axes of timm's array into the published order; returns a view."""
    if not published.endswith("kernel"):
        return array
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def rearrange(published: str, array: np.ndarray) -> np.ndarray:
    """Puts the axes of a published array into timm's order; returns a view."""
    if not published.endswith("kernel"):
        return array
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


LAYOUT = FileLayout("timm", "blocks.", published_names, file_name, arrange, rearrange)


def _published_name(name: str) -> str:
    module, _, parameter = name.rpartition(".")
    ours = _renamed(module, MODULES)
    if ours is None or parameter not in ("weight", "bias"):
        return name
    if parameter == "weight":
        parameter = "scale" if "norm" in ours.lower() else "kernel"
    return f"{ours}/{parameter}"


def _renamed(module: str, names: dict[str, str]) -> str | None:
    """Looks `module` up in a table of names in which {} stands for the number of the block."""
    block = re.match(r"(MixerBlock_|blocks\.)(\d+)(.*)$", module)
    if block is None:
        return names.get(module)
    found = names.get(f"{block[1]}{{}}{block[3]}")
    return found and found.format(block[2])
