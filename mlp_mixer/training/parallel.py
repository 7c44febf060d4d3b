"""How arrays lie on devices: a mesh with one axis, over which the examples of a batch are split."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh() -> Mesh:
    """All devices of all processes along the axis "data"."""
    # Auto axes: XLA places the collectives. make_mesh's default (Explicit) rejects some of Linen's
    # operations.
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """The first axis split evenly over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def to_devices(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's rows of a batch to the global batch, split over the devices."""
    return {
        key: jax.make_array_from_process_local_data(split(mesh), array)
        for key, array in batch.items()
    }


def check_batch_size(batch_size: int, accum_steps: int, mesh: Mesh) -> None:
    """Raises ValueError unless a batch divides evenly over devices and accumulation steps."""
    if batch_size < 1 or accum_steps < 1 or batch_size % (mesh.size * accum_steps):
        raise ValueError(
            f"batch_size={batch_size} must be a multiple of the {mesh.size} devices times "
            f"accum_steps={accum_steps}"
        )
