"""Fresh parameters of a model, made leaf by leaf.

`jax.jit(module.init)` is one program as long as the model is deep, and compiling it takes longer
than compiling the training step. A Mixer has a dozen shapes of parameters only, whatever its depth.
"""

import functools
import math
import zlib
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from mlp_mixer.models.mixer import MlpMixer


def init(module: nn.Module, seed: int = 0, shardings: Any = None) -> dict[str, Any]:
    """Fresh float32 parameters of `module`, a nested dict with the published names.

    A Mixer's are drawn as Flax draws them (kernels LeCun normal), each leaf from the seed and its
    own name, so that they are the same whatever the layout and the other leaves. Other models are
    initialised by Flax.

    Args:
        module: a Mixer, or another model of this folder.
        seed: of what is random.
        shardings: a tree of the parameters' shardings, made in place where given.
    """
    from mlp_mixer.models.mixer import MlpMixer  # which imports this module

    key = jax.random.key(seed)
    if not isinstance(module, MlpMixer):
        images = jnp.zeros((1, *module.image_size, module.image_channels), jnp.float32)
        make = jax.jit(lambda key: module.init(key, images)["params"], out_shardings=shardings)
        return make(key)
    params: dict[str, Any] = {}
    for name, shape in shapes(module).items():
        *parents, last = name.split("/")
        node, sharding = params, shardings
        for parent in parents:
            node = node.setdefault(parent, {})
            sharding = None if sharding is None else sharding[parent]
        sharding = None if sharding is None else sharding[last]
        if last == "kernel" and name != "head/kernel":
            node[last] = _lecun_normal(shape, sharding)(key, np.uint32(zlib.crc32(name.encode())))
        else:
            value = module.head_bias if name == "head/bias" else float(last == "scale")
            node[last] = _full(shape, sharding)(value)
    return params


@functools.cache
def _lecun_normal(shape: tuple[int, ...], sharding: Any) -> Any:
    def make(key, number):
        # Not partitionable: each hash gives two numbers, in half of the time that is most of a
        # large model's start-up on a CPU. The values are the same under any sharding either way.
        with jax.threefry_partitionable(False):
            return nn.initializers.lecun_normal()(
                jax.random.fold_in(key, number), shape, jnp.float32
            )

    return jax.jit(make, out_shardings=sharding)


@functools.cache
def _full(shape: tuple[int, ...], sharding: Any) -> Any:
    return jax.jit(lambda value: jnp.full(shape, value, jnp.float32), out_shardings=sharding)


def shapes(module: "MlpMixer") -> dict[str, tuple[int, ...]]:
    """Every parameter's name and shape; the same as `module.init` makes, without tracing it."""
    s, c = math.prod(module.grid), module.hidden_dim
    named = {"stem/kernel": (*module.patch_size, module.image_channels, c), "stem/bias": (c,)}
    for i in range(module.num_blocks):
        for norm in ("LayerNorm_0", "LayerNorm_1"):
            named |= _norm(f"MixerBlock_{i}/{norm}", c)
        for mlp, outer, inner in (
            ("token_mixing", s, module.tokens_mlp_dim),
            ("channel_mixing", c, module.channels_mlp_dim),
        ):
            named |= _dense(f"MixerBlock_{i}/{mlp}/Dense_0", outer, inner)
            named |= _dense(f"MixerBlock_{i}/{mlp}/Dense_1", inner, outer)
    named |= _norm("pre_head_layer_norm", c)
    return named | (_dense("head", c, module.num_classes) if module.num_classes else {})


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}/scale": (width,), f"{name}/bias": (width,)}


def _dense(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}/kernel": (inputs, outputs), f"{name}/bias": (outputs,)}
