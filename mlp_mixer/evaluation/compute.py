"""Computes something for each batch of a data set, while the host reads the next one."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import jax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from mlp_mixer.data.workers import Batch
from mlp_mixer.models import pixels
from mlp_mixer.models.parts import forward_parts
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
    """Computes what `pixels.forward` does, on each device in parts that stay in its fast memory."""
    parts = forward_parts(module, len(images) // mesh.size, mesh.devices.flat[0])
    if parts == 1:
        return pixels.forward(module, params, images)
    # Cut on each device, or rows would have to move from one to another.
    rows = P(meshes.AXES)
    of_device = partial(pixels.forward, module, parts=parts)
    sharded = jax.shard_map(of_device, mesh=mesh, in_specs=(P(), rows), out_specs=rows)
    return sharded(params, images)
