"""The ResNet of Big Transfer (Kolesnikov et al. 2020, arXiv 1912.11370), a baseline in the paper.

A ResNet-v2 with group normalisation, weight standardisation and the padding that the published
weights need, so that parameter counts, logits and compiled programs can be compared with the
published ones. The interface is that of `models.mixer.MlpMixer`.

Shapes in comments: n images, h x w positions, c channels.
"""

import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mlp_mixer.models.checks import check_images, checked_fields

# Number of units in each stage, by the number of layers.
STAGES = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}
# The Mixer paper's baselines and BiT's own models. Any other width works too.
VARIANTS = (
    "R50x1", "R50x2", "R50x3", "R101x1", "R101x3",
    "R152x1", "R152x2", "R152x4", "R200x3",
)  # fmt: skip
STEMS = ("7x7", "3x3")


class StdConv(nn.Module):
    """A convolution without bias whose kernel is standardised for each output channel."""

    features: int
    size: int
    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, jnp.float32)
        kernel = jax.nn.standardize(kernel, axis=(0, 1, 2), epsilon=1e-10)
        # Not SAME, which would pad strided convolutions asymmetrically.
        return jax.lax.conv_general_dilated(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            (self.stride, self.stride),
            [(self.size // 2, self.size // 2)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )


class Unit(nn.Module):
    """A pre-activation bottleneck: 1x1, 3x3 (with the stride), 1x1 to four times the width."""

    width: int
    stride: int = 1
    groups: int = 32
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def norm_relu(y: jax.Array, name: str) -> jax.Array:
            norm = nn.GroupNorm(self.groups, epsilon=1e-5, dtype=self.dtype, name=name)
            return nn.relu(norm(y))

        def conv(y: jax.Array, width: int, size: int, name: str, stride: int = 1) -> jax.Array:
            return StdConv(width, size, stride, self.dtype, name=name)(y)

        y = norm_relu(x, "gn1")
        if x.shape[-1] != 4 * self.width or self.stride != 1:
            x = conv(y, 4 * self.width, 1, "conv_proj", self.stride)
        y = conv(y, self.width, 1, "conv1")
        y = conv(norm_relu(y, "gn2"), self.width, 3, "conv2", self.stride)
        return x + conv(norm_relu(y, "gn3"), 4 * self.width, 1, "conv3")


class BiT(nn.Module):
    """A BiT ResNet: float images [n, h, w, image_channels] in [-1, 1] to logits [n, num_classes].

    Parameters are float32; the class head starts at zero. With `num_classes=0` there is no head and
    the result is the pooled features [n, c]; both kinds of result are float32.

    Attributes:
        num_classes: width of the head; 0 for none.
        image_size: (height, width) of the input in pixels; the parameters fit any size.
        stages: number of units in each stage; the first has stride 1, the others 2.
        width: channels of the stem and of the bottlenecks in the first stage, which double from
            stage to stage; a unit's output is four times as wide as its bottleneck.
        stem: "7x7", with stride 2 and max pooling, or "3x3", with neither, for images of 32 pixels.
        groups: number of groups in the group normalisation.
        image_channels: number of input channels; 3 for RGB.
        head_bias: initial value of the head's bias; see `losses.head_bias`.
        dtype: number type of the computation up to the last normalisation. Weight standardisation,
            statistics, pooling and the head are always float32.
    """

    num_classes: int
    image_size: tuple[int, int]
    stages: tuple[int, ...]
    width: int = 64
    stem: str = "7x7"
    groups: int = 32
    image_channels: int = 3
    head_bias: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        images: jax.Array,
        *,
        train: bool = False,
        rows: jax.Array | None = None,
        return_features: bool = False,
    ) -> jax.Array | tuple[jax.Array, dict[str, jax.Array]]:
        """Returns logits, with `return_features` as (logits, dict of intermediate features).

        Args:
            images: float [n, h, w, image_channels] in [-1, 1].
            train, rows: ignored, as BiT trains without dropout.
            return_features: the dict holds "stem" and "stage_i" (maps [n, h, w, c] after the stem
                and after each stage) and "pre_logits" (pooled features [n, c]).

        Raises:
            ValueError: the images do not have the size or channels that this module was made for.
        """
        del train, rows
        check_images(images, (*self.image_size, self.image_channels), "BiT")
        if self.stem == "7x7":
            x = StdConv(self.width, 7, 2, self.dtype, name="conv_root")(images)
            # The published models pad with zeros before they pool; max_pool would pad with -inf.
            x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            x = nn.max_pool(x, (3, 3), (2, 2))
        else:
            x = StdConv(self.width, 3, 1, self.dtype, name="conv_root")(images)
        features = {"stem": x}
        for i, units in enumerate(self.stages):
            for j in range(units):
                x = Unit(
                    self.width * 2**i,
                    stride=2 if i and not j else 1,
                    groups=self.groups,
                    dtype=self.dtype,
                    name=f"stage{i + 1}_unit{j + 1}",
                )(x)
            features[f"stage_{i}"] = x
        x = nn.GroupNorm(self.groups, epsilon=1e-5, dtype=jnp.float32, name="norm")(x)
        x = features["pre_logits"] = nn.relu(x).mean(axis=(1, 2))
        if self.num_classes:
            x = nn.Dense(
                self.num_classes,
                kernel_init=nn.initializers.zeros,
                bias_init=nn.initializers.constant(self.head_bias),
                dtype=jnp.float32,
                name="head",
            )(x)
        return (x, features) if return_features else x


def create(
    variant: str | None = None,
    *,
    num_classes: int = 1000,
    image_size: int | tuple[int, int] = 224,
    **fields: Any,
) -> BiT:
    """Makes a BiT from the name of a variant such as "R50x1", or from its sizes.

    Args:
        variant: layers and widening factor (see VARIANTS; any factor works). None if `stages` is
            given, as in create(stages=(2, 2, 2), width=32, stem="3x3", image_size=32).
        num_classes: width of the head; 0 for pooled features.
        image_size: in pixels, one number for a square or (height, width).
        **fields: any other attributes of BiT; they override the variant's.

    Raises:
        ValueError: the variant or the stem is unknown, a field is missing, unknown or invalid, or
            the width does not divide into groups.
    """
    sizes: dict[str, Any] = {}
    if variant is not None:
        found = re.fullmatch("R([0-9]+)x([1-9][0-9]*)", str(variant))
        if not found or int(found[1]) not in STAGES:
            layers = ", ".join(f"R{layers}" for layers in STAGES)
            raise ValueError(
                f"unknown BiT variant {variant!r}; use one of {', '.join(VARIANTS)}, "
                f"or any LAYERSxFACTOR with LAYERS of {layers}"
            )
        sizes = {"stages": STAGES[int(found[1])], "width": 64 * int(found[2])}
    fields = {"num_classes": num_classes, "image_size": image_size} | sizes | fields
    module = BiT(**checked_fields(BiT, fields, {"stages"}))
    if module.stem not in STEMS:
        raise ValueError(f"unknown stem {module.stem!r}; use one of {', '.join(STEMS)}")
    if module.width % module.groups:
        raise ValueError(f"a width of {module.width} does not divide into {module.groups} groups")
    return module
