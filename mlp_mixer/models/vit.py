"""Vision Transformer (Dosovitskiy et al. 2021, arXiv 2010.11929), a baseline in the paper.

Names, shapes and initialisation of the parameters are those of google-research/vision_transformer,
so that parameter counts, logits and compiled programs can be compared with the published ones. The
interface is that of `models.mixer.MlpMixer`.

Shapes in comments: n images, s tokens (patches and the class token), c channels (hidden_dim).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mlp_mixer.models.checks import (
    check_images,
    checked_fields,
    name_of_sizes,
    named_sizes,
    tile,
)
from mlp_mixer.models.dropout import Dropout, training_rows

# Table 1 of the ViT paper, and S of arXiv 2106.10270.
SIZES: dict[str, dict[str, int]] = {
    "S": dict(num_blocks=12, hidden_dim=384, mlp_dim=1536, num_heads=6),
    "B": dict(num_blocks=12, hidden_dim=768, mlp_dim=3072, num_heads=12),
    "L": dict(num_blocks=24, hidden_dim=1024, mlp_dim=4096, num_heads=16),
    "H": dict(num_blocks=32, hidden_dim=1280, mlp_dim=5120, num_heads=16),
}
# The variants of the papers. Any other patch size works too.
VARIANTS = ("S/32", "S/16", "B/32", "B/16", "L/32", "L/16", "H/14")


class MlpBlock(nn.Module):
    """An MLP over the last axis: Dense, GELU (tanh), Dense back to the input's width."""

    mlp_dim: int
    dropout_rate: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, rows: jax.Array | None = None) -> jax.Array:
        def dense(width: int, name: str) -> nn.Dense:
            return nn.Dense(
                width,
                dtype=self.dtype,
                kernel_init=nn.initializers.xavier_uniform(),
                bias_init=nn.initializers.normal(1e-6),
                name=name,
            )

        dropout = Dropout(self.dropout_rate, name="dropout")
        y = dropout(nn.gelu(dense(self.mlp_dim, "Dense_0")(x)), rows)
        return dropout(dense(x.shape[-1], "Dense_1")(y), rows)


class EncoderBlock(nn.Module):
    """Self-attention and an MLP, each with pre-norm and a skip connection."""

    mlp_dim: int
    num_heads: int
    dropout_rate: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, rows: jax.Array | None = None) -> jax.Array:
        def attention(
            q: jax.Array, k: jax.Array, v: jax.Array, dropout_rng: Any = None, **options: Any
        ) -> jax.Array:
            if dropout_rng is None:
                return nn.dot_product_attention(q, k, v, **options)

            def of_one(row: Any, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
                key = jax.random.fold_in(dropout_rng, row)
                return nn.dot_product_attention(q, k, v, dropout_rng=key, **options)

            return jax.vmap(of_one)(rows, q, k, v)

        y = nn.LayerNorm(dtype=self.dtype)(x)  # [n, s, c]
        y = nn.MultiHeadDotProductAttention(
            self.num_heads,
            dtype=self.dtype,
            kernel_init=nn.initializers.xavier_uniform(),
            dropout_rate=self.dropout_rate,
            broadcast_dropout=False,
            deterministic=rows is None,
            force_fp32_for_softmax=True,
            attention_fn=attention,
        )(y)
        x = x + Dropout(self.dropout_rate)(y, rows)
        y = nn.LayerNorm(dtype=self.dtype)(x)
        return x + MlpBlock(self.mlp_dim, self.dropout_rate, self.dtype)(y, rows)


class Encoder(nn.Module):
    """The encoder: position embeddings, blocks and a last LayerNorm."""

    num_blocks: int
    mlp_dim: int
    num_heads: int
    dropout_rate: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, rows: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        x = _PositionEmbedding(name="posembed_input")(x)
        x = Dropout(self.dropout_rate)(x, rows)
        features = {}
        for i in range(self.num_blocks):
            name = f"encoderblock_{i}"
            block = EncoderBlock(
                self.mlp_dim, self.num_heads, self.dropout_rate, self.dtype, name=name
            )
            x = features[name] = block(x, rows)
        return nn.LayerNorm(dtype=jnp.float32, name="encoder_norm")(x), features


class _PositionEmbedding(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        normal = nn.initializers.normal(0.02)
        embedding = self.param("pos_embedding", normal, (1, *x.shape[1:]), jnp.float32)
        return x + embedding.astype(x.dtype)


class VisionTransformer(nn.Module):
    """A ViT: float images [n, h, w, image_channels] in [-1, 1] to logits [n, num_classes].

    Parameters are float32; the class head starts at zero. With `num_classes=0` there is no head and
    the result is the features of the class token [n, hidden_dim]; both kinds of result are float32.

    Attributes:
        num_classes: width of the head; 0 for none.
        image_size: (height, width) in pixels. The position embeddings fit this size only.
        patch_size: (height, width) in pixels.
        num_blocks: the number of encoder layers.
        hidden_dim: the width of a token.
        mlp_dim: the hidden width of the MLPs.
        num_heads: the number of self-attention heads.
        image_channels: number of input channels; 3 for RGB.
        dropout_rate: probability that an element is dropped after the position embeddings, in the
            attention weights, in the branches and in the MLPs; 0.1 in the paper's training from
            scratch. It draws from the rng stream "dropout".
        head_bias: initial value of the head's bias; see `losses.head_bias`.
        dtype: number type of the computation in the blocks. LayerNorm statistics, softmax, the last
            LayerNorm and the head are always float32.
    """

    num_classes: int
    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    num_blocks: int
    hidden_dim: int
    mlp_dim: int
    num_heads: int
    image_channels: int = 3
    dropout_rate: float = 0.0
    head_bias: float = 0.0
    dtype: Any = jnp.float32

    @property
    def grid(self) -> tuple[int, int]:
        """The number of patches along the height and the width."""
        return tile(self.image_size, self.patch_size)

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
            train: whether dropout is on; it needs the rng "dropout".
            rows: see `models.mixer.MlpMixer`.
            return_features: the dict holds "stem" (tokens [n, s, c] without the class token),
                "encoderblock_i" (with it) and "pre_logits" (the class token's features [n, c]).

        Raises:
            ValueError: the patches do not tile the image, or the images do not have the size or
                channels that this module was made for.
        """
        h, w = self.grid
        check_images(images, (*self.image_size, self.image_channels), "ViT")
        x = nn.Conv(
            self.hidden_dim,
            self.patch_size,
            strides=self.patch_size,
            padding="VALID",
            dtype=self.dtype,
            name="embedding",
        )(images)
        stem = x = x.reshape(images.shape[0], h * w, self.hidden_dim)
        cls = self.param("cls", nn.initializers.zeros, (1, 1, self.hidden_dim), jnp.float32)
        cls = cls.astype(x.dtype)
        x = jnp.concatenate([jnp.broadcast_to(cls, (x.shape[0], *cls.shape[1:])), x], axis=1)
        widths = (self.num_blocks, self.mlp_dim, self.num_heads)
        encoder = Encoder(*widths, self.dropout_rate, self.dtype, name="Transformer")
        x, features = encoder(x, training_rows(train, rows, images))
        features |= {"stem": stem, "pre_logits": x[:, 0]}
        x = features["pre_logits"]
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
    patch_size: int | tuple[int, int] | None = None,
    **fields: Any,
) -> VisionTransformer:
    """Makes a ViT from the name of a variant, such as "B/16", or from its widths.

    Arguments and errors are those of `models.mixer.create`.
    """
    sizes = named_sizes(variant, "ViT", SIZES, VARIANTS)
    if patch_size is not None:
        sizes["patch_size"] = patch_size
    fields = {"num_classes": num_classes, "image_size": image_size} | sizes | fields
    fields = checked_fields(VisionTransformer, fields, {"patch_size", *SIZES["B"]})
    module = VisionTransformer(**fields)
    if module.hidden_dim % module.num_heads:
        raise ValueError(
            f"a width of {module.hidden_dim} does not divide into {module.num_heads} heads"
        )
    module.grid  # noqa: B018 - raises where the patches do not tile the image
    return module


def variant_of(module: VisionTransformer) -> str | None:
    """Returns the name of the variant with the module's widths, such as "B/16", or None."""
    return name_of_sizes(module, SIZES)
