"""The number type that a model computes in."""

from typing import Any, Literal

import jax.numpy as jnp

Dtype = Literal["auto", "float32", "bfloat16"]
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def compute_dtype(name: str, fast_bfloat16: bool) -> Any:
    """Returns the number type that a config's `dtype` names.

    Args:
        name: "float32", "bfloat16", or "auto" for the faster of the two.
        fast_bfloat16: whether bfloat16 is; see `runtime.devices.has_fast_bfloat16`.

    Raises:
        ValueError: the name is unknown.
    """
    if name == "auto":
        name = "bfloat16" if fast_bfloat16 else "float32"
    if name not in DTYPES:
        raise ValueError(f"unknown dtype {name!r}; use auto, {' or '.join(DTYPES)}")
    return DTYPES[name]
