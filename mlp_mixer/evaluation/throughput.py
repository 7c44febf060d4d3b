"""Images per second of a model on one device, at the best batch size, as in the paper."""

import math
import time
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mlp_mixer.models.pixels import forward
from mlp_mixer.runtime.devices import is_out_of_memory

BATCH_SIZES = (8, 16, 32, 64, 128, 256, 512, 1024)
SECONDS = 2.0  # least time to measure each batch size
PATIENCE = 2  # consecutive batch sizes without a gain after which larger ones are not tried


class Throughput(NamedTuple):
    """The highest throughput measured, and the batch size that it was measured at."""

    images_per_second: float
    batch_size: int


def measure(module: Any, params: Any) -> Throughput:
    """Measures inference on the first device, and returns the best of BATCH_SIZES.

    Copying pixels to the device is not part of the time.

    Args:
        module: a model; its dtype is the one to measure in.
        params: its parameters.

    Raises:
        jax.errors.JaxRuntimeError: not even the smallest batch fits in memory.
    """
    best, since_best = Throughput(0.0, 0), 0
    for batch_size in BATCH_SIZES:
        try:
            speed = _images_per_second(module, params, batch_size)
        except jax.errors.JaxRuntimeError as error:
            if not best.batch_size or not is_out_of_memory(error):
                raise
            break
        since_best += 1
        if speed > best.images_per_second:
            best, since_best = Throughput(speed, batch_size), 0
        if since_best == PATIENCE:
            break
    return best


def _images_per_second(module: Any, params: Any, batch_size: int) -> float:
    device = jax.local_devices()[0]
    shape = (batch_size, *module.image_size, module.image_channels)
    params, pixels = jax.device_put((params, jnp.zeros(shape, jnp.uint8)), device)
    run = jax.jit(partial(forward, module))
    jax.block_until_ready(run(params, pixels))  # compiles

    def seconds(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            result = run(params, pixels)
        jax.block_until_ready(result)  # the last one: a device runs its calls in order
        return time.perf_counter() - start

    calls = max(1, math.ceil(SECONDS / seconds(1)))
    return batch_size * calls / seconds(calls)
