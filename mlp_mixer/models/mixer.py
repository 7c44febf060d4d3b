"""MLP-Mixer (Tolstikhin et al. 2021, arXiv 2105.01601) as a Flax Linen module.

The names that Linen gives to submodules are those of the published checkpoints
(`MixerBlock_0/token_mixing/Dense_0/kernel`). Nothing outside `models/` knows about Linen: the rest
of the code sees `module.init`, `module.apply` and a plain nested dict of parameters.

Shapes in comments: n images, h x w pixels, s tokens (patches), c channels (hidden_dim).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.transforms import fork_rngs

from mlp_mixer.models.checks import (
    check_images,
    checked_fields,
    name_of_sizes,
    named_sizes,
    tile,
)
from mlp_mixer.models.dropout import Dropout, keep, training_rows
from mlp_mixer.models.gelu import FORMS as GELUS
from mlp_mixer.models.gelu import in_float32
from mlp_mixer.models.layers import Dense, LayerNorm, Stem

# Table 1 of the paper. S, the number of tokens, follows from the image and patch sizes.
SIZES: dict[str, dict[str, int]] = {
    "S": dict(num_blocks=8, hidden_dim=512, tokens_mlp_dim=256, channels_mlp_dim=2048),
    "B": dict(num_blocks=12, hidden_dim=768, tokens_mlp_dim=384, channels_mlp_dim=3072),
    "L": dict(num_blocks=24, hidden_dim=1024, tokens_mlp_dim=512, channels_mlp_dim=4096),
    "H": dict(num_blocks=32, hidden_dim=1280, tokens_mlp_dim=640, channels_mlp_dim=5120),
}
# The variants of Table 1, and S/8, which was released later. Any other patch size works too.
VARIANTS = ("S/32", "S/16", "S/8", "B/32", "B/16", "L/32", "L/16", "H/14")


class MlpBlock(nn.Module):
    """An MLP over the last axis: Dense, GELU, Dense back to the input's width."""

    mlp_dim: int
    dropout_rate: float = 0.0
    dtype: Any = jnp.float32
    gelu: str = "tanh"

    @nn.compact
    def __call__(
        self, x: jax.Array, rows: jax.Array | None = None, drop_scale: jax.Array | None = None
    ) -> jax.Array:
        dropout = Dropout(self.dropout_rate, name="dropout")
        y = Dense(self.mlp_dim, dtype=self.dtype)(x)
        y = dropout(in_float32(GELUS[self.gelu], y), rows, drop_scale)
        return dropout(Dense(x.shape[-1], dtype=self.dtype)(y), rows, drop_scale)


class MixerBlock(nn.Module):
    """A token-mixing and a channel-mixing MLP, each with pre-norm and a skip connection."""

    tokens_mlp_dim: int
    channels_mlp_dim: int
    dropout_rate: float = 0.0
    dtype: Any = jnp.float32
    gelu: str = "tanh"
    stoch_depth_rescale: bool = False

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        rows: jax.Array | None = None,
        drop_path: jax.Array | None = None,
        drop_scale: jax.Array | None = None,
    ) -> jax.Array:
        def mlp(dim: int, name: str) -> MlpBlock:
            return MlpBlock(dim, self.dropout_rate, self.dtype, self.gelu, name=name)

        # Draws what nn.jit would, under which this method once was: old runs stay repeatable.
        with fork_rngs(self):
            # x: [n, s, c]. On TPUs swapaxes + Dense is the fastest; an einsum is 6 % slower.
            y = LayerNorm(dtype=self.dtype)(x).swapaxes(1, 2)  # [n, c, s]
            y = mlp(self.tokens_mlp_dim, "token_mixing")(y, rows, drop_scale).swapaxes(1, 2)
            x = x + self._maybe_drop(y, rows, drop_path)
            y = LayerNorm(dtype=self.dtype)(x)
            y = mlp(self.channels_mlp_dim, "channel_mixing")(y, rows, drop_scale)
            return x + self._maybe_drop(y, rows, drop_path)

    def _maybe_drop(
        self, y: jax.Array, rows: jax.Array | None, drop_path: jax.Array | None
    ) -> jax.Array:
        """Drops the branch `y` of each image with probability drop_path (stochastic depth)."""
        if rows is None or drop_path is None:
            return y
        kept = keep(self.make_rng("dropout"), rows, drop_path, (1, 1)).astype(y.dtype)
        if self.stoch_depth_rescale:
            kept /= jnp.maximum(1 - drop_path, 1e-6).astype(y.dtype)
        return y * kept


class MlpMixer(nn.Module):
    """An MLP-Mixer: float images [n, h, w, image_channels] in [-1, 1] to logits [n, num_classes].

    Parameters are float32 and have the names and shapes of the published checkpoints. The class
    head starts at zero. With `num_classes=0` there is no head and the result is the pooled
    features [n, hidden_dim]; both kinds of result are float32 whatever `dtype` is.

    Stochastic depth follows the authors' code in big_vision, because that is the code whose
    recipe reached the published accuracy: in block i of N the branches of both MLPs are dropped
    with probability `stoch_depth * i / (N - 1)`, independently for each example and MLP; what is
    kept is not rescaled in training, and nothing is rescaled at test time. (The paper describes it
    as linear from the first MLP to the last; timm and scenic divide by the keep probability.)
    Dropout acts after the GELU and after the second Dense layer of each MLP, as in ViT.
    Both draw from the rng stream "dropout".

    Attributes:
        num_classes: width of the head; 0 for none.
        image_size: (height, width) in pixels. The token-mixing weights fit this size only.
        patch_size: (height, width) in pixels.
        num_blocks: N, the number of Mixer layers.
        hidden_dim: C, the width of a token.
        tokens_mlp_dim: D_S, the hidden width of the token-mixing MLPs.
        channels_mlp_dim: D_C, the hidden width of the channel-mixing MLPs.
        image_channels: number of input channels; 3 for RGB.
        dropout_rate: probability that an activation inside an MLP is dropped.
        stoch_depth: drop probability of the last block's branches.
        stoch_depth_rescale: whether branches that are kept are divided by the probability to be
            kept, as in timm; the authors' code leaves them as they are.
        head_bias: initial value of the head's bias; see `losses.head_bias`.
        dtype: number type of the computation in the blocks. LayerNorm statistics, pooling and the
            head are always float32.
        gelu: "tanh", the approximation that the released weights were trained with, or "exact",
            the erf form that timm computes.
        remat: whether to recompute the inside of each block for the gradient, which saves memory
            and takes about a quarter more time; accum_steps saves memory at a lower cost
            (docs/lab/tpu_compiler.md).
    """

    num_classes: int
    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    num_blocks: int
    hidden_dim: int
    tokens_mlp_dim: int
    channels_mlp_dim: int
    image_channels: int = 3
    dropout_rate: float = 0.0
    stoch_depth: float = 0.0
    stoch_depth_rescale: bool = False
    head_bias: float = 0.0
    dtype: Any = jnp.float32
    gelu: str = "tanh"
    remat: bool = False

    @property
    def grid(self) -> tuple[int, int]:
        """The number of patches along the height and the width."""
        return tile(self.image_size, self.patch_size)

    @property
    def num_tokens(self) -> int:
        """The number of tokens of one image, S."""
        return self.grid[0] * self.grid[1]

    @nn.compact
    def __call__(
        self,
        images: jax.Array,
        *,
        train: bool = False,
        rows: jax.Array | None = None,
        drop_scale: jax.Array | None = None,
        return_features: bool = False,
    ) -> jax.Array | tuple[jax.Array, dict[str, jax.Array]]:
        """Returns logits, with `return_features` as (logits, dict of intermediate features).

        Args:
            images: float [n, h, w, image_channels] in [-1, 1].
            train: whether dropout and stochastic depth are on; they need the rng "dropout".
            rows: int [n], the images' numbers in the global batch. Together with the rng they
                determine what is dropped of each image; 0 to n - 1 if not given.
            drop_scale: float32, multiplies the rates of dropout and stochastic depth.
            return_features: the dict holds "stem" and "MixerBlock_i" (tokens [n, s, c] after the
                stem and after each block) and "pre_logits" (pooled features [n, c]).

        Raises:
            ValueError: the patches do not tile the image, or the images or the parameters do not
                have the size that this module was made for.
        """
        self._check(images)
        rows, features = training_rows(train, rows, images), {}
        x = Stem(self.hidden_dim, self.patch_size, self.dtype, name="stem")(images)
        features["stem"] = x

        block_class = nn.remat(MixerBlock) if self.remat else MixerBlock
        drop_paths: Any = np.linspace(0.0, self.stoch_depth, self.num_blocks, dtype=np.float32)
        if drop_scale is not None:
            drop_paths = drop_scale * drop_paths
        for i in range(self.num_blocks):
            block = block_class(
                self.tokens_mlp_dim,
                self.channels_mlp_dim,
                dropout_rate=self.dropout_rate,
                dtype=self.dtype,
                gelu=self.gelu,
                stoch_depth_rescale=self.stoch_depth_rescale,
                name=f"MixerBlock_{i}",
            )
            x = block(x, rows, drop_paths[i] if self.stoch_depth else None, drop_scale)
            features[f"MixerBlock_{i}"] = x
        x = LayerNorm(name="pre_head_layer_norm")(x)
        x = features["pre_logits"] = x.mean(axis=1)
        if self.num_classes:
            x = nn.Dense(
                self.num_classes,
                kernel_init=nn.initializers.zeros,
                bias_init=nn.initializers.constant(self.head_bias),
                dtype=jnp.float32,
                name="head",
            )(x)
        return (x, features) if return_features else x

    def _check(self, images: jax.Array) -> None:
        tokens = self.grid[0] * self.grid[1]
        check_images(
            images, (*self.image_size, self.image_channels), "Mixer",
            ", or convert the weights to another size with mlp_mixer.load(path, image_size=...)",
        )  # fmt: skip
        block = self.variables.get("params", {}).get("MixerBlock_0")
        if block is not None and not self.is_initializing():
            had = block["token_mixing"]["Dense_0"]["kernel"].shape[0]
            if had != tokens:
                raise ValueError(
                    f"parameters made for {had} tokens do not fit an image of "
                    f"{self.image_size[0]}x{self.image_size[1]} in patches of {self.patch_size[0]}x"
                    f"{self.patch_size[1]}, which gives {tokens}; convert them with "
                    "mlp_mixer.load(path, image_size=...)"
                )


def create(
    variant: str | None = None,
    *,
    num_classes: int = 1000,
    image_size: int | tuple[int, int] = 224,
    patch_size: int | tuple[int, int] | None = None,
    **fields: Any,
) -> MlpMixer:
    """Makes a Mixer from the name of a variant, or from its widths.

    Args:
        variant: size and patch, such as "B/16" (see VARIANTS; any patch size works). None if
            patch_size and all widths (num_blocks, hidden_dim, tokens_mlp_dim, channels_mlp_dim)
            are given.
        num_classes: width of the head; 0 for pooled features.
        image_size: in pixels, one number for a square or (height, width).
        patch_size: likewise; overrides the variant's.
        **fields: any other attributes of MlpMixer; widths override the variant's.

    Raises:
        ValueError: the variant is unknown, a field is missing, unknown or invalid, or the patches
            do not tile the image.
    """
    sizes = named_sizes(variant, "Mixer", SIZES, VARIANTS)
    if patch_size is not None:
        sizes["patch_size"] = patch_size
    fields = {"num_classes": num_classes, "image_size": image_size} | sizes | fields
    module = MlpMixer(**checked_fields(MlpMixer, fields, {"patch_size", *SIZES["S"]}))
    if module.gelu not in GELUS:
        raise ValueError(f"unknown gelu {module.gelu!r}; use one of {', '.join(GELUS)}")
    module.grid  # noqa: B018 - raises where the patches do not tile the image
    return module


def rounded(module: Any, params: Any) -> Any:
    """Returns parameters in the number types in which a Mixer multiplies and adds them.

    Results are the same to the bit. They take half the memory where it computes in bfloat16, and
    need not be converted for each batch. Those of other models are returned as they are.
    """
    if not isinstance(module, MlpMixer) or module.dtype == jnp.float32:
        return params

    def layer(tree: Any) -> Any:
        if "kernel" in tree:  # LayerNorm, which has none, and the head are computed in float32
            return {name: jnp.asarray(x, module.dtype) for name, x in tree.items()}
        return {name: layer(x) if isinstance(x, dict) else x for name, x in tree.items()}

    return {name: x if name == "head" else layer(x) for name, x in params.items()}


def list_variants() -> list[str]:
    """Returns the names of the paper's variants, such as "B/16"."""
    return list(VARIANTS)


def variant_of(module: MlpMixer) -> str | None:
    """Returns the name of the variant with the module's widths, such as "B/16", or None.

    A module whose tokens_mlp_dim the paper's block-diagonal scheme has multiplied is no variant.
    """
    return name_of_sizes(module, SIZES)
