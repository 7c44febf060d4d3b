"""What XLA must be told before it starts."""

import os
from importlib.metadata import PackageNotFoundError, version


def avoid_stale_products() -> None:
    """Has an old jaxlib multiply matrices right on CPUs; call it before JAX computes anything.

    Before 0.9 (0.8.1 still does it) jaxlib leaves large products to XNNPACK, and takes an argument
    at the address of an earlier one for that one: after an update of weights in place, or for
    weights that are NumPy arrays, it multiplies by numbers that are not there any more.
    """
    try:
        release = version("jaxlib").split(".")
    except PackageNotFoundError:
        return
    if (int(release[0]), int(release[1])) < (0, 9):
        flags = os.environ.get("XLA_FLAGS", "")  # the last one counts, so yours does
        os.environ["XLA_FLAGS"] = f"--xla_cpu_use_xnnpack=false {flags}".strip()
