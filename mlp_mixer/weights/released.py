"""The released Mixer weights, by short names such as "imagenet21k/Mixer-B_16".

Sources: the listing of the bucket in vit_jax.ipynb of google-research/vision_transformer; the heads
are ImageNet's 1,000 classes or ImageNet-21k's 21,843. sam and gsam are ImageNet-1k weights trained
with those optimizers. No JFT-300M, 448-pixel or fine-tuned weights were released.
"""

from typing import NamedTuple

ADDRESS = "https://storage.googleapis.com/mixer_models"


class Released(NamedTuple):
    """What a released file holds."""

    variant: str
    num_classes: int
    size: int  # bytes; derived from the names and shapes of its arrays, see SIZE_TOLERANCE


# The listing gives MiB to two decimals, and which files have the kind of zip header that takes 20
# more bytes for each array was guessed by their dates; so sizes are known to this many bytes.
SIZE_TOLERANCE = 8192

RELEASED = {
    "imagenet1k/Mixer-B_16": Released("B/16", 1000, 239_564_448),
    "imagenet1k/Mixer-L_16": Released("L/16", 1000, 832_868_560),
    "imagenet21k/Mixer-B_16": Released("B/16", 21_843, 303_677_516),
    "imagenet21k/Mixer-L_16": Released("L/16", 21_843, 918_324_860),
    "sam/Mixer-B_16": Released("B/16", 1000, 239_567_448),
    "sam/Mixer-B_32": Released("B/32", 1000, 241_219_272),
    "gsam/Mixer-B_16": Released("B/16", 1000, 239_567_448),
    "gsam/Mixer-B_32": Released("B/32", 1000, 241_219_272),
    "gsam/Mixer-S_16": Released("S/16", 1000, 74_143_928),
    "gsam/Mixer-S_32": Released("S/32", 1000, 76_449_368),
    "gsam/Mixer-S_8": Released("S/8", 1000, 82_616_888),
}


def classes(name: str) -> str:
    """Returns which classes the head of a released file has: "imagenet1k" or "imagenet21k"."""
    return "imagenet21k" if name.startswith("imagenet21k/") else "imagenet1k"


def address(name: str) -> str:
    """Returns the web address of a released file by its short name."""
    return f"{ADDRESS}/{name}.npz"
