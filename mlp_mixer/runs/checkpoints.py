"""The checkpoints that a run has left: which there are, which is best, and what is in them.

They lie in WORKDIR/checkpoints/STEP/{params,opt_state}, on a disk or in a bucket. A checkpoint
exists if and only if its marker does, SHA256SUMS, which is written last and deleted first. One that
is damaged later is noticed by its digests (see digests.py).
"""

import json
import logging
from os import PathLike
from typing import Any, NamedTuple

import jax

from mlp_mixer.runs import digests
from mlp_mixer.runs.orbax_errors import in_a_line
from mlp_mixer.runtime import visible_log
from mlp_mixer.runtime.storage import (
    AnyPath,
    absolute,
    as_path,
    names,
)

with visible_log.root_as_it_is():
    import orbax.checkpoint as ocp

log = logging.getLogger(__name__)

FOLDER, BEST_FILE = "checkpoints", "best.json"
ANOTHER = "give another checkpoint of the run"


def folder_of(workdir: str | PathLike, step: int | None = None) -> AnyPath:
    """Returns the folder of a run's checkpoints, or of the one of a step."""
    folder = absolute(as_path(workdir)) / FOLDER
    return folder if step is None else folder / str(step)


def all_steps(workdir: str | PathLike) -> list[int]:
    """Returns the steps of the run's complete checkpoints, oldest first."""
    folder = folder_of(workdir)
    steps = sorted(int(name) for name in names(folder) if name.isdecimal())
    return [step for step in steps if digests.is_sealed(folder / str(step))]


def latest_step(workdir: str | PathLike) -> int | None:
    """Returns the step of the newest complete checkpoint, damaged or not; None if there is none."""
    return max(all_steps(workdir), default=None)


class TrainState(NamedTuple):
    """All that training changes; a checkpoint holds exactly this."""

    step: jax.Array  # int32 scalar: the number of updates already applied
    params: Any  # nested dict with the published names
    opt_state: Any


class Best(NamedTuple):
    """The checkpoint of the best evaluation: its step, and the scalar that it is best by."""

    step: int
    scalar: str
    value: float

    def is_beaten_by(self, value: float) -> bool:
        """Returns whether a value is better: a lower loss, or more of anything else."""
        return value < self.value if self.scalar.endswith("loss") else value > self.value


def best(workdir: str | PathLike) -> Best | None:
    """Returns which checkpoint of a run was best; None where none is kept for that."""
    folder = folder_of(workdir)
    try:
        found = Best(**json.loads((folder / BEST_FILE).read_text()))
    except (OSError, ValueError, TypeError):  # there is none, or it is damaged
        return None
    return found if digests.is_sealed(folder / str(found.step)) else None


def what_is_wrong(folder: AnyPath, part: str = "") -> str:
    """Returns what is wrong with a checkpoint's files, or those of one part; "" if nothing is."""
    reason = digests.damage(folder, part)
    if reason or not folder.name.isdecimal():  # a copy may have any other name
        return reason
    step, _ = digests.read_arrays(folder)
    return "" if step == int(folder.name) else f"it was saved at step {step}"


def latest(workdir: str | PathLike) -> AnyPath:
    """Returns the folder of the newest checkpoint with intact parameters; for use outside a run.

    Raises:
        FileNotFoundError: the workdir has no checkpoint.
        ValueError: all are damaged.
    """
    damaged = {}
    for step in reversed(all_steps(workdir)):
        folder = folder_of(workdir, step)
        damaged[step] = what_is_wrong(folder, "params/")
        if not damaged[step]:
            return folder
        log.error("CHECKPOINT %s IS DAMAGED: %s", folder, damaged[step])
    if not damaged:
        raise FileNotFoundError(f"{workdir} has neither model.npz nor a checkpoint")
    raise ValueError(f"{workdir} has only damaged checkpoints: {listing(damaged)}")


def restore_params(step_folder: AnyPath) -> dict[str, Any]:
    """Reads the parameters of one checkpoint as NumPy arrays, for use outside the run.

    Raises:
        ValueError: the checkpoint is damaged or unreadable.
    """
    log.info("reading the parameters in %s", step_folder)
    step_folder = absolute(step_folder)
    if reason := digests.damage(step_folder, "params/"):
        raise ValueError(f"checkpoint {step_folder} is damaged: {reason}; {ANOTHER}")
    item = step_folder / "params"
    try:
        like = ocp.StandardCheckpointHandler().metadata(item).tree
        params = read_item(item, jax.tree.map(on_host, like))
    except Exception as error:  # tensorstore raises bare Exception
        raise ValueError(
            f"checkpoint {step_folder} is unreadable ({in_a_line(error)}); {ANOTHER}"
        ) from error
    saved = digests.read_arrays(step_folder)[1].items()
    expected = {name: digest for name, digest in saved if name.startswith("params/")}
    if names := digests.changed(expected, digests.of_arrays({"params": params})):
        raise ValueError(
            f"checkpoint {step_folder} is damaged: {names} is not what was saved; {ANOTHER}"
        )
    return jax.device_get(params)


def read_item(item: AnyPath, like: Any) -> Any:
    """Reads the arrays of one part of a checkpoint, placed as `like` (ShapeDtypeStructs) says."""
    # The handler, and not a Checkpointer, which would wait for the other processes.
    return ocp.StandardCheckpointHandler().restore(item, args=ocp.args.StandardRestore(like))


def placed(x: Any, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    """Returns an array's shape, to be read onto the devices that `sharding` names."""
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


def on_host(x: Any) -> jax.ShapeDtypeStruct:
    """Returns an array's shape, to be read into the memory of this process's machine."""
    try:
        device = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS names only the accelerator
        device = jax.local_devices()[0]
    return placed(x, jax.sharding.SingleDeviceSharding(device))


def listing(damaged: dict[int, str]) -> str:
    """Returns steps and what is wrong with their checkpoints, as one line of a message."""
    return "; ".join(f"{step}: {reason}" for step, reason in sorted(damaged.items()))
