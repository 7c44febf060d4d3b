"""How a training step is distributed over devices: three layouts of one function.

    replicated   jit; every device holds all parameters and works on its rows of the batch
    fsdp         jit; parameters and optimizer state are split over the devices of a slice
    pmap         jax.pmap; like replicated, to compare with or extend code that uses pmap

The gradient of a batch is the sum of the gradients that each device computes for its rows. That
computation is written once (`training.step`); a layout only adds where parameters are gathered, and
how gradients are summed. The mesh is that of `runtime.mesh`.

FSDP gathers all parameters once before the accumulation loop and scatters all gradients once after
it, with explicit collectives. The memory suffices for the Mixer, whose largest variant has 1.7 GB.
XLA's TPU compiler gathers in bfloat16, during the forward pass; what it makes of the scattering
depends on the shape of the slice. Leaving the placement to XLA costs several times as much traffic.
All of this is in docs/lab/tpu_compiler.md. A teacher is gathered likewise.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from mlp_mixer.runs.checkpoints import TrainState
from mlp_mixer.runtime import mesh as meshes
from mlp_mixer.runtime.compiler_options import OVERLAPPED_SUMS, options_for
from mlp_mixer.runtime.mesh import AXES
from mlp_mixer.training.step import Step

SUM_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def make_layout(
    name: str = "replicated",
    sum_dtype: str = "float32",
    devices: Sequence[jax.Device] | None = None,
) -> "Replicated":
    """Makes a layout.

    Args:
        name: a key of LAYOUTS.
        sum_dtype: dtype in which gradients are summed over devices; "bfloat16" halves the traffic
            and loses precision.
        devices: the devices to use, by default all devices of all processes; may belong to a
            topology that is not attached (see `planning`).

    Raises:
        ValueError: the name or dtype is unknown, or slices have unequal sizes.
    """
    if name not in LAYOUTS:
        raise ValueError(f"unknown layout {name!r}; use one of {', '.join(LAYOUTS)}")
    if sum_dtype not in SUM_DTYPES:
        raise ValueError(f"unknown sum_dtype {sum_dtype!r}; use {' or '.join(SUM_DTYPES)}")
    return LAYOUTS[name](meshes.make_mesh(devices), SUM_DTYPES[sum_dtype])


class Replicated:
    """Data parallelism with jit: all parameters on every device; gradients are summed each step."""

    def __init__(self, mesh: Mesh, sum_dtype: Any = jnp.float32):
        self.mesh, self.sum_dtype = mesh, sum_dtype
        self.rows, self.everywhere = meshes.rows(mesh), meshes.everywhere(mesh)

    @cached_property
    def compiler_options(self) -> dict[str, Any]:
        """The options with which XLA compiles the step."""
        return options_for(self.mesh)

    @property
    def overlaps_sums(self) -> bool:
        """Whether gradients are summed over devices during the backward pass, where it is no loop.

        The last of several parts of a batch is then best computed outside of their loop.
        """
        return OVERLAPPED_SUMS.keys() <= self.compiler_options.keys()

    def shardings(self, tree: Any) -> Any:
        """Returns the sharding of each array of a state, or of any part of one."""
        return jax.tree.map(lambda x: NamedSharding(self.mesh, self._spec(x)), tree)

    def place(self, tree: Any) -> Any:
        """Puts arrays, which all processes have whole, on the devices as `shardings` says."""
        return jax.jit(lambda tree: tree, out_shardings=self.shardings(tree))(tree)

    def jit_step(self, step: Step, like: TrainState, *teacher: Any) -> jax.stages.Wrapped:
        """Returns the function (state, batch, *teacher) -> (state, metrics), not yet compiled.

        Args:
            step: the local and the global part of the step; see `training.step`.
            like: shapes of the state.
            teacher: shapes of the teacher's parameters, where there is a teacher.
        """
        specs, teacher_specs = (jax.tree.map(self._spec, tree) for tree in (like.params, teacher))

        def gradients(params: Any, batch: Any, number: jax.Array, *teacher: Any) -> tuple[Any, Any]:
            whole, teacher = (
                jax.tree.map(self._gather, tree, tree_specs)
                for tree, tree_specs in ((params, specs), (teacher, teacher_specs))
            )
            sums, grads = step.local(whole, batch, number, AXES, *teacher)
            return jax.lax.psum(sums, AXES), jax.tree.map(self._sum, grads, specs)

        sharded = jax.shard_map(
            gradients,
            mesh=self.mesh,
            in_specs=(specs, P(AXES), P(), *teacher_specs),
            out_specs=(P(), specs),
            check_vma=False,  # gradients are of each device's own rows until they are summed above
        )

        def train_step(state: TrainState, batch: Any, *teacher: Any) -> tuple[TrainState, Any]:
            return step.update(state, *sharded(state.params, batch, state.step, *teacher))

        return jax.jit(
            train_step,
            in_shardings=(self.shardings(like), self.rows, *self.shardings(teacher)),
            out_shardings=(self.shardings(like), self.everywhere),
            donate_argnums=0,
            compiler_options=self.compiler_options,
        )

    def compile_step(
        self, step: Step, like: TrainState, batch: dict[str, Any], *teacher: Any
    ) -> Callable:
        """Compiles `jit_step` for batches like `batch`, which is one of `to_devices`."""
        return self.jit_step(step, like, *teacher).lower(like, batch, *teacher).compile()

    def to_devices(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Makes the global batch, split over the devices, from this process's rows of it."""
        return meshes.to_devices(batch, self.mesh)

    def to_global(self, tree: Any) -> Any:
        """Converts a state, as the step returns it, to global arrays that can be saved."""
        return tree

    def to_everywhere(self, tree: Any) -> Any:
        """Replicates parameters, as the step returns them, on every device for evaluation."""
        return tree

    def check_batch_size(self, batch_size: int, accum_steps: int = 1) -> None:
        """Raises a ValueError unless a batch divides evenly over devices and accumulation steps."""
        if batch_size < 1 or accum_steps < 1 or batch_size % (self.mesh.size * accum_steps):
            raise ValueError(
                f"batch_size={batch_size} must be a multiple of the {self.mesh.size} devices times "
                f"accum_steps={accum_steps}"
            )

    def _spec(self, x: Any) -> P:
        return P()

    def _gather(self, x: jax.Array, spec: P) -> jax.Array:
        return x

    def _sum(self, grad: jax.Array, spec: P) -> jax.Array:
        return jax.lax.psum(grad.astype(self.sum_dtype), AXES).astype(grad.dtype)


class Fsdp(Replicated):
    """Parameters and optimizer state split over the devices of a slice, along the largest axis."""

    def to_everywhere(self, tree: Any) -> Any:
        return jax.jit(lambda x: x, out_shardings=self.everywhere)(tree)

    def _spec(self, x: Any) -> P:
        count = self.mesh.shape["data"]
        fitting = [axis for axis, size in enumerate(x.shape) if size % count == 0 and size]
        if not fitting or count == 1:
            return P()  # small or odd arrays stay replicated
        axis = max(fitting, key=lambda axis: x.shape[axis])
        return P(*[None] * axis, "data")

    def _gather(self, x: jax.Array, spec: P) -> jax.Array:
        if not spec:
            return x
        return jax.lax.all_gather(x, "data", axis=len(spec) - 1, tiled=True)

    def _sum(self, grad: jax.Array, spec: P) -> jax.Array:
        if not spec:
            return super()._sum(grad, spec)
        part = jax.lax.psum_scatter(
            grad.astype(self.sum_dtype), "data", scatter_dimension=len(spec) - 1, tiled=True
        )
        return jax.lax.psum(part, "slice").astype(grad.dtype)


class Pmap(Replicated):
    """Data parallelism with jax.pmap. Between steps, arrays cover this process's devices only."""

    overlaps_sums = False  # jax.pmap takes no compiler options

    def jit_step(self, step: Step, like: TrainState, *teacher: Any) -> jax.stages.Wrapped:
        del like  # pmap takes the shapes from its first call
        axis = "device"

        def train_step(state: TrainState, batch: Any, *teacher: Any) -> tuple[TrainState, Any]:
            sums, grads = step.local(state.params, batch, state.step, axis, *teacher)
            grads = jax.tree.map(
                lambda g: jax.lax.psum(g.astype(self.sum_dtype), axis).astype(g.dtype), grads
            )
            return step.update(state, jax.lax.psum(sums, axis), grads)

        return jax.pmap(
            train_step,
            axis_name=axis,
            in_axes=(None, 0, *[None] * len(teacher)),
            out_axes=None,
            donate_argnums=0,
            devices=list(self.mesh.devices.flat),
        )

    def compile_step(
        self, step: Step, like: TrainState, batch: dict[str, Any], *teacher: Any
    ) -> Callable:
        """Returns `jit_step`, which is compiled when it is first called.

        To compile earlier, pmap over several processes would need arrays, not only shapes.
        """
        return self.jit_step(step, like, *teacher)

    def to_devices(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        count = len(self.mesh.local_devices)
        return {key: x.reshape(count, -1, *x.shape[1:]) for key, x in batch.items()}

    def to_global(self, tree: Any) -> Any:
        def whole(x: jax.Array) -> jax.Array:
            copies = [shard.data for shard in x.addressable_shards]
            return jax.make_array_from_single_device_arrays(x.shape, self.everywhere, copies)

        return jax.tree.map(whole, tree)

    def to_everywhere(self, tree: Any) -> Any:
        return self.to_global(tree)


LAYOUTS = {"replicated": Replicated, "fsdp": Fsdp, "pmap": Pmap}
