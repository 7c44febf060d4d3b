"""The devices of all processes as one mesh, and arrays that lie over it.

The mesh has the axes "slice" (over the data-centre network, where there are several TPU slices) and
"data" (within a slice).
"""

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

AXES = ("slice", "data")


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Arranges devices as [slices, devices of a slice]; those of a process lie side by side.

    Row r of a batch is then on the same process whatever the layout, which keeps a run's result.

    Args:
        devices: all of all processes where not given. They may be those of a TPU topology that is
            not here (see `planning`).

    Raises:
        ValueError: the slices are of unequal size.
    """
    devices = sorted(
        devices or jax.devices(),
        key=lambda d: (getattr(d, "slice_index", 0) or 0, d.process_index, d.id),
    )
    slices = len({getattr(d, "slice_index", 0) or 0 for d in devices})
    if len(devices) % slices:
        raise ValueError(f"{len(devices)} devices in {slices} slices: all must have as many")
    # Mesh has Auto axes. jax.make_mesh would make Explicit ones, which Linen does not know.
    return Mesh(np.array(devices).reshape(slices, -1), AXES)


def rows(mesh: Mesh) -> NamedSharding:
    """Returns how a batch lies: its rows are split over all devices."""
    return NamedSharding(mesh, P(AXES))


def everywhere(mesh: Mesh) -> NamedSharding:
    """Returns how an array lies that is whole on every device."""
    return NamedSharding(mesh, P())


def to_devices(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Makes the global batch of this process's rows of it, split over the devices."""
    sharding = rows(mesh)
    return {
        key: jax.make_array_from_process_local_data(sharding, array) for key, array in batch.items()
    }


def divisible(count: int, mesh: Mesh) -> int:
    """Returns the smallest batch of at least `count` rows that the devices divide evenly."""
    return -(-count // mesh.size) * mesh.size
