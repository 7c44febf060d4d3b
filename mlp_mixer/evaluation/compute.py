"""Computes something for each batch of a data set, while the host reads the next one."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
from jax.sharding import Mesh

from mlp_mixer.data.workers import Batch
from mlp_mixer.models import pixels
from mlp_mixer.models.parts import best_parts
from mlp_mixer.runtime import mesh as meshes


def compute(
    function: Callable[[Any, Any], Any], params: Any, batches: Iterable[Batch], mesh: Mesh
) -> Iterator[tuple[Batch, Any]]:
    """Yields each batch with `function(params, batch)` as NumPy arrays, in order.

    The devices compute one batch while the host reads the next.

    Args:
        function: a jitted function.
        params: its first argument, copied to the devices once.
        batches: this process's rows of each batch.
        mesh: devices to compute on.
    """
    params = jax.device_put(params, meshes.everywhere(mesh))
    waiting: tuple[Batch, Any] | None = None
    for batch in batches:
        result = function(params, meshes.to_devices(batch, mesh))
        if waiting:
            yield waiting[0], jax.device_get(waiting[1])
        waiting = batch, result
    if waiting:
        yield waiting[0], jax.device_get(waiting[1])


def forward(module: Any, params: Any, images: jax.Array, mesh: Mesh) -> jax.Array:
    """Computes what `pixels.forward` does, on a CPU in parts that stay in its caches.

    Other devices compute a batch whole. A GPU gains nothing from parts, for a TPU's forward pass
    they were not measured, and rows that lie over several devices would have to be moved.
    """
    lone_cpu = mesh.size == 1 and mesh.devices.flat[0].platform == "cpu"
    parts = best_parts(module, len(images), "cpu") if lone_cpu else 1
    return pixels.forward(module, params, images, parts)
