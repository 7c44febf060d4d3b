"""Initialises a model's parameters, leaf by leaf.

`jax.jit(module.init)` is one program that grows with the model's depth, and compiling it takes
longer than compiling the training step. A Mixer's parameters have only a dozen different shapes,
whatever its depth.
"""

import functools
import zlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from mlp_mixer.models.mixer import MlpMixer


def init(module: nn.Module, seed: int = 0, shardings: Any = None) -> dict[str, Any]:
    """Initialises float32 parameters of `module`, a nested dict with the published names.

    A Mixer's are drawn as Flax draws them (kernels LeCun normal), but each leaf from the seed and
    its own name, so that it depends neither on the layout nor on other leaves. Other models are
    initialised by Flax.

    Args:
        module: a Mixer, or another model of `mlp_mixer.models`.
        seed: seed of the random numbers.
        shardings: a tree of shardings with which the parameters are created, if given.
    """
    key = jax.random.key(seed)
    if not isinstance(module, MlpMixer):
        make = jax.jit(functools.partial(_init_by_flax, module), out_shardings=shardings)
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


@functools.lru_cache(64)
def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every parameter by its name, such as "stem/kernel".

    They are found by tracing the module. Of a Mixer only one block is traced, and stands for all.
    """
    blocks = module.num_blocks if isinstance(module, MlpMixer) else 0
    traced = module.clone(num_blocks=1) if blocks else module
    made = jax.eval_shape(functools.partial(_init_by_flax, traced), jax.random.key(0))
    named = {name: x.shape for name, x in traverse_util.flatten_dict(made, sep="/").items()}
    for name in [name for name in named if name.startswith("MixerBlock_0/")]:
        for i in range(1, blocks):
            named[name.replace("MixerBlock_0", f"MixerBlock_{i}")] = named[name]
    return named


def _init_by_flax(module: nn.Module, key: jax.Array) -> dict[str, Any]:
    images = jnp.zeros((1, *module.image_size, module.image_channels), jnp.float32)
    return module.init(key, images)["params"]


@functools.cache
def _lecun_normal(shape: tuple[int, ...], sharding: Any) -> Any:
    def make(key, number):
        # Not partitionable: each hash then gives two numbers, which halves the time that takes up
        # most of a large model's start-up on a CPU. Sharding changes no value either way.
        with jax.threefry_partitionable(False):
            return nn.initializers.lecun_normal()(
                jax.random.fold_in(key, number), shape, jnp.float32
            )

    return jax.jit(make, out_shardings=sharding)


@functools.cache
def _full(shape: tuple[int, ...], sharding: Any) -> Any:
    return jax.jit(lambda value: jnp.full(shape, value, jnp.float32), out_shardings=sharding)
