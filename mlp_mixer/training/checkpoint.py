"""Orbax checkpoints of a run: step, parameters, optimizer state.

They lie in WORKDIR/checkpoints/STEP/{params,opt_state}; the folder's name is the step. Saving is
asynchronous and atomic: a run that is killed while it saves leaves the previous checkpoint.
"""

import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore

from mlp_mixer.training.step import TrainState

log = logging.getLogger(__name__)

FOLDER = "checkpoints"


def all_steps(workdir: str | Path) -> list[int]:
    """The steps of the run's complete checkpoints, oldest first."""
    folder = Path(workdir).absolute() / FOLDER
    return sorted(ocp.utils.checkpoint_steps(folder)) if folder.is_dir() else []


def latest_step(workdir: str | Path) -> int | None:
    """The newest complete checkpoint's step; None where there is none."""
    return max(all_steps(workdir), default=None)


class Misfit(ValueError):
    """A checkpoint that is whole, but of another model."""


class Checkpoints:
    """Saves and restores the states of one run."""

    def __init__(self, workdir: str | Path, keep: int = 1):
        """`keep` is how many of the newest checkpoints stay."""
        self._folder = Path(workdir).absolute() / FOLDER
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def save(self, step: int, state: TrainState) -> None:
        """Copies the state to the host and writes it in the background."""
        if step == self._manager.latest_step():
            return
        self._manager.save(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(state.params),
                opt_state=ocp.args.StandardSave(state.opt_state),
            ),
        )

    def restore(self, step: int, like: TrainState, shardings: TrainState) -> TrainState:
        """The state saved at `step`, laid over devices as `shardings` says, array by array.

        Raises:
            ValueError: the checkpoint is unreadable, or does not fit `like`; names the parameters.
        """

        target = jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            like,
            shardings,
        )

        try:
            for item in ("params", "opt_state"):
                _read_once(self._folder / str(step) / item)
            with ocp.StandardCheckpointer() as checkpointer:
                stored = checkpointer.metadata(self._folder / str(step) / "params").item_metadata
            _check_shapes(stored.tree, like.params, self._folder / str(step))
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    params=ocp.args.StandardRestore(target.params),
                    opt_state=ocp.args.StandardRestore(target.opt_state),
                ),
            )
        except Misfit:
            raise
        except Exception as error:  # tensorstore raises bare Exception for missing or cut files
            raise unreadable(self._folder / str(step), error) from error
        number = jax.device_put(np.asarray(step, np.int32), shardings.step)
        return TrainState(number, restored["params"], restored["opt_state"])

    def close(self) -> None:
        """Waits until everything is written."""
        self._manager.wait_until_finished()
        self._manager.close()


def latest(workdir: str | Path) -> Path:
    """The folder of the newest complete checkpoint.

    Raises:
        FileNotFoundError: the workdir has no checkpoint.
    """
    folder, step = Path(workdir).absolute() / FOLDER, latest_step(workdir)
    if step is None:
        raise FileNotFoundError(f"{workdir} has neither model.npz nor a checkpoint")
    return folder / str(step)


def restore_params(step_folder: Path) -> dict[str, Any]:
    """The parameters of one checkpoint as NumPy arrays, for use outside the run.

    Raises:
        ValueError: the checkpoint is unreadable.
    """
    log.info("reading the parameters in %s", step_folder)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            item = step_folder.absolute() / "params"
            _read_once(item)
            cpu = jax.sharding.SingleDeviceSharding(jax.local_devices(backend="cpu")[0])
            like = jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=cpu),
                checkpointer.metadata(item).item_metadata.tree,
            )
            return jax.device_get(checkpointer.restore(item, like))
    except Exception as error:  # tensorstore raises bare Exception for missing or cut files
        raise unreadable(step_folder.absolute(), error) from error


def _read_once(item: Path) -> None:
    """Reads the stored bytes one after another; raises at the first that cannot be read.

    Orbax reads all arrays at once, and when one fails it leaves the others to threads, which then
    print pages of errors or crash the process.
    """
    if (item / "manifest.ocdbt").exists():
        store = tensorstore.KvStore.open({"driver": "ocdbt", "base": f"file://{item}/"}).result()
        for key in store.list().result():
            store.read(key).result()


def unreadable(step_folder: Path, error: Exception) -> ValueError:
    """The error for a checkpoint that exists but cannot be read."""
    earlier = [s for s in all_steps(step_folder.parent.parent) if s < int(step_folder.name)]
    fall_back = f"step {max(earlier)}" if earlier else "the start"
    reason = str(error).strip().splitlines()[0][:300] if str(error) else type(error).__name__
    return ValueError(
        f"checkpoint {step_folder} is unreadable ({reason}); delete this folder to go on from "
        f"{fall_back}"
    )


def _check_shapes(stored: Any, wanted: Any, where: Path) -> None:
    def flat(tree: Any) -> dict[str, tuple[int, ...]]:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return {jax.tree_util.keystr(p, simple=True, separator="/"): x.shape for p, x in leaves}

    have, want = flat(stored), flat(wanted)
    differences = [
        f"  {name}: checkpoint {have.get(name, 'has none')}, model {want.get(name, 'has none')}"
        for name in sorted(have.keys() | want.keys())
        if have.get(name) != want.get(name)
    ]
    if differences:
        raise Misfit(f"checkpoint {where} does not fit the model:\n" + "\n".join(differences))
