"""The number type that a model computes in."""

from typing import Any

import jax.numpy as jnp

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def compute_dtype(name: str, platform: str) -> Any:
    """Returns the number type that a config's `dtype` names.

    "auto" is bfloat16 on TPUs and GPUs, and float32 on CPUs, where bfloat16 gains nothing.

    Raises:
        ValueError: the name is unknown.
    """
    if name == "auto":
        name = "float32" if platform == "cpu" else "bfloat16"
    if name not in DTYPES:
        raise ValueError(f"unknown dtype {name!r}; use auto, {' or '.join(DTYPES)}")
    return DTYPES[name]
