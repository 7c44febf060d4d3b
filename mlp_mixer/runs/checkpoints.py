"""Orbax checkpoints of a run: step, parameters, optimizer state, and digests of them.

They lie in WORKDIR/checkpoints/STEP/{params,opt_state}. Saving is asynchronous: Orbax writes into
STEP.unverified, which is read back, compared with what was saved, and then renamed. So a folder
with a bare number as its name was whole at that time, and one that is damaged since is noticed by
its digests (see digests.py). Only when the new checkpoint has its name are older ones deleted.
"""

import json
import logging
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from mlp_mixer.runs import digests
from mlp_mixer.runs.orbax_errors import SILENT_THREADS, in_a_line
from mlp_mixer.runtime import visible_log
from mlp_mixer.runtime.processes import from_process_0
from mlp_mixer.runtime.storage import write_text

with visible_log.root_as_it_is():
    import orbax.checkpoint as ocp

log = logging.getLogger(__name__)

FOLDER, BEST_FILE = "checkpoints", "best.json"
# Of checkpoints on their way in or out: a run that is killed leaves them, the next deletes them.
_UNVERIFIED, _DELETING = ".unverified", ".deleting"
_DAMAGED = ".damaged"  # set aside, for a person to look at


def all_steps(workdir: str | Path) -> list[int]:
    """The steps of the run's complete checkpoints, oldest first."""
    folder = Path(workdir).absolute() / FOLDER
    names = (path.name for path in folder.iterdir()) if folder.is_dir() else ()
    return sorted(int(name) for name in names if name.isdecimal())


def latest_step(workdir: str | Path) -> int | None:
    """The newest complete checkpoint's step, damaged or not; None where there is none."""
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
        """Whether a value is better: a lower loss, or more of anything else."""
        return value < self.value if self.scalar.endswith("loss") else value > self.value


def best(workdir: str | Path) -> Best | None:
    """Returns which checkpoint of a run was best; None where none is kept for that."""
    folder = Path(workdir).absolute() / FOLDER
    try:
        found = Best(**json.loads((folder / BEST_FILE).read_text()))
    except (OSError, ValueError, TypeError):  # there is none, or it is damaged
        return None
    return found if (folder / str(found.step)).is_dir() else None


class Misfit(ValueError):
    """A checkpoint that is whole, but of another model."""


class Checkpoints:
    """Saves and restores the states of one run, which must hold the workdir's lock.

    In several processes all call the same methods in the same order.
    """

    def __init__(self, workdir: str | Path, keep: int = 1):
        """`keep` is how many of the newest checkpoints stay.

        Raises:
            ValueError: `keep` is not positive.
        """
        if keep < 1:
            raise ValueError(f"keep_checkpoints={keep}, but the newest must be kept: 1 or more")
        self._workdir, self._folder = workdir, Path(workdir).absolute() / FOLDER
        self._keep = keep
        self._newest: int | None = None  # the step that was restored or saved last
        self._orbax = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler())
        self._background = ThreadPoolExecutor(1)
        self._saving: tuple[int, Future] | None = None
        if jax.process_index() == 0:
            self._folder.mkdir(parents=True, exist_ok=True)
            for path in self._folder.iterdir():
                if any(mark in path.name for mark in (_UNVERIFIED, _DELETING, "checkpoint-tmp")):
                    shutil.rmtree(path)

    def __enter__(self) -> "Checkpoints":
        SILENT_THREADS.__enter__()
        return self

    def __exit__(self, kind, error, traceback) -> None:
        try:
            self.close()
        except OSError as unsaved:
            if error is None:
                raise
            log.error("%s", unsaved)  # without hiding what ended the run
        finally:
            SILENT_THREADS.__exit__()

    def save(self, step: int, state: TrainState) -> None:
        """Copies the state to the host and writes it in the background.

        Raises:
            OSError: this checkpoint, or the one before it, could not be written.
        """
        if step == self._newest:
            return
        self.wait()
        if not self._folder.is_dir():  # Orbax would make a new one, without the rest of the run
            raise OSError(f"{self._folder} has vanished, so step {step} cannot be saved")
        lanes = digests.start(state)
        items = {"params": state.params, "opt_state": state.opt_state}
        like = jax.tree.map(on_host, items)
        args = {name: ocp.args.StandardSave(item) for name, item in items.items()}
        try:
            self._orbax.save(self._path(step, _UNVERIFIED), args=ocp.args.Composite(**args))
        except Exception as error:  # tensorstore raises bare Exception
            raise self._unwritten(step, error) from error
        self._newest = step
        self._saving = step, self._background.submit(self._finish, step, lanes, like)

    def _finish(self, step: int, lanes: dict[str, Any], like: dict[str, Any]) -> None:
        self._orbax.wait_until_finished()  # until the parts of all processes are there
        if jax.process_index():
            return
        arrays = digests.finish(lanes)
        folder, found = self._path(step, _UNVERIFIED), {}
        found["step"] = arrays["step"]  # the one thing that is not an array there
        for name, item in like.items():
            found |= digests.of_arrays({name: read_item(folder / name, item)})
        if names := digests.changed(arrays, found):
            raise OSError(f"what is there is not what was written: {names}")
        digests.write_arrays(folder, step, arrays)
        digests.seal(folder)
        folder.rename(self._path(step))
        log.info("checkpoint %d is written and verified", step)
        self._delete_old()

    def note(self, step: int, scalar: str, value: float) -> None:
        """Keeps the checkpoint of a step for as long as no other has a better value of a scalar.

        To be called by all processes, after `save` of that step and before the next.
        """
        if jax.process_index():
            return
        before = best(self._workdir)
        if before is None or before.scalar != scalar or before.is_beaten_by(value):
            text = json.dumps(Best(step, scalar, value)._asdict())
            write_text(self._folder / BEST_FILE, text + "\n")

    def _delete_old(self) -> None:
        kept = best(self._workdir)
        for old in all_steps(self._workdir)[: -self._keep]:
            if kept and old == kept.step:
                continue
            # Renamed first: a run that is killed here must not leave half of a checkpoint.
            shutil.rmtree(self._path(old).rename(self._path(old, _DELETING)))

    def check(self) -> None:
        """Raises OSError if the last checkpoint could not be written; does not wait."""
        if self._saving and self._saving[1].done():
            self.wait()

    def wait(self) -> None:
        """Waits until the last checkpoint is written and verified; raises OSError if it is not."""
        if not self._saving:
            return
        (step, saving), self._saving = self._saving, None
        try:
            saving.result()
        except Exception as error:  # tensorstore raises bare Exception
            raise self._unwritten(step, error) from error

    def close(self) -> None:
        """As `wait`; nothing can be saved after it."""
        try:
            self.wait()
        finally:
            self._background.shutdown()
            self._orbax.close()

    def restore(self, like: TrainState, shardings: TrainState) -> TrainState | None:
        """The newest state that is not damaged; None where nothing was ever saved.

        Damaged checkpoints that are newer are renamed to STEP.damaged, and the log says so.

        Args:
            like: the shapes.
            shardings: how the arrays will lie over devices; any, whatever they were saved with.

        Raises:
            ValueError: all are damaged, or the newest that is not does not fit `like`; names the
                parameters.
        """
        like = jax.tree.map(_placed, like, shardings)
        damaged: dict[int, str] = {}  # steps and what is wrong; in process 0 only, but for arrays
        # Process 0 says which; there is no checkpoint of step 0, which stands for none.
        while step := from_process_0(lambda: self._newest_whole(damaged) or 0):
            state = self._restore(step, like)
            names = digests.changed(
                digests.read_arrays(self._path(step))[1], digests.of_arrays(state)
            )
            if not names:
                self._newest = step
                if jax.process_index() == 0:
                    self._set_aside(damaged)
                    self._delete_old()  # a run that was killed may not have come to it
                return state
            damaged[step] = f"{names} is not what was saved"
        if not from_process_0(lambda: len(damaged)):
            return None
        raise ValueError(
            f"no checkpoint in {self._folder} is undamaged: {_listing(damaged)}; delete this "
            "folder to go on from the start"
        )

    def _newest_whole(self, damaged: dict[int, str]) -> int | None:
        """The newest step whose files are right and which is not in `damaged`; extends that."""
        for step in reversed(all_steps(self._workdir)):
            if step not in damaged:
                reason = what_is_wrong(self._path(step))
                if not reason:
                    return step
                damaged[step] = reason
        return None

    def _restore(self, step: int, like: TrainState) -> TrainState:
        folder = self._path(step)
        try:
            stored = ocp.StandardCheckpointHandler().metadata(folder / "params")
            _check_shapes(stored.tree, like.params, folder)
            params, opt_state = (
                read_item(folder / name, item)
                for name, item in (("params", like.params), ("opt_state", like.opt_state))
            )
        except Misfit:
            raise
        except Exception as error:  # tensorstore raises bare Exception
            raise ValueError(f"checkpoint {folder} is unreadable ({in_a_line(error)})") from error
        number = jax.device_put(np.asarray(step, np.int32), like.step.sharding)
        return TrainState(number, params, opt_state)

    def _set_aside(self, damaged: dict[int, str]) -> None:
        for step, reason in damaged.items():
            aside = self._path(step, _DAMAGED)
            if aside.exists():
                shutil.rmtree(aside)
            self._path(step).rename(aside)
            log.error(
                "CHECKPOINT %s IS DAMAGED: %s. Going on from an earlier one; it is now called %s, "
                "and may be deleted.", self._path(step), reason, aside.name,
            )  # fmt: skip

    def _path(self, step: int, mark: str = "") -> Path:
        return self._folder / f"{step}{mark}"

    def _unwritten(self, step: int, error: Exception) -> OSError:
        last = latest_step(self._workdir)
        return OSError(
            f"checkpoint {self._path(step)} could not be written ({in_a_line(error)}); the same "
            f"command goes on from {'the start' if last is None else f'step {last}'}"
        )


def what_is_wrong(folder: Path, part: str = "") -> str:
    """What is wrong with a checkpoint's files, or with those of one part of it; "" for nothing."""
    reason = digests.damage(folder, part)
    if not reason and (step := digests.read_arrays(folder)[0]) != int(folder.name):
        reason = f"it was saved at step {step}"
    return reason


def latest(workdir: str | Path) -> Path:
    """The folder of the newest checkpoint whose parameters are not damaged; for use outside a run.

    Raises:
        FileNotFoundError: the workdir has no checkpoint.
        ValueError: all are damaged.
    """
    damaged = {}
    for step in reversed(all_steps(workdir)):
        folder = Path(workdir).absolute() / FOLDER / str(step)
        damaged[step] = what_is_wrong(folder, "params/")
        if not damaged[step]:
            return folder
        log.error("CHECKPOINT %s IS DAMAGED: %s", folder, damaged[step])
    if not damaged:
        raise FileNotFoundError(f"{workdir} has neither model.npz nor a checkpoint")
    raise ValueError(f"{workdir} has only damaged checkpoints: {_listing(damaged)}")


def restore_params(step_folder: Path) -> dict[str, Any]:
    """The parameters of one checkpoint as NumPy arrays, for use outside the run.

    Raises:
        ValueError: the checkpoint is damaged or unreadable.
    """
    log.info("reading the parameters in %s", step_folder)
    step_folder = step_folder.absolute()
    if reason := digests.damage(step_folder, "params/"):
        raise ValueError(f"checkpoint {step_folder} is damaged: {reason}")
    item = step_folder / "params"
    try:
        like = ocp.StandardCheckpointHandler().metadata(item).tree
        params = read_item(item, jax.tree.map(on_host, like))
    except Exception as error:  # tensorstore raises bare Exception
        raise ValueError(f"checkpoint {step_folder} is unreadable ({in_a_line(error)})") from error
    saved = digests.read_arrays(step_folder)[1].items()
    expected = {name: digest for name, digest in saved if name.startswith("params/")}
    if names := digests.changed(expected, digests.of_arrays({"params": params})):
        raise ValueError(f"checkpoint {step_folder} is damaged: {names} is not what was saved")
    return jax.device_get(params)


def read_item(item: Path, like: Any) -> Any:
    """The arrays of one part of a checkpoint, laid as the ShapeDtypeStructs of `like` say."""
    # The handler, and not a Checkpointer, which would wait for the other processes.
    return ocp.StandardCheckpointHandler().restore(item, args=ocp.args.StandardRestore(like))


def _placed(x: Any, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


def on_host(x: Any) -> jax.ShapeDtypeStruct:
    """An array's shape, to be read into the memory of this process's machine."""
    try:
        device = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS names only the accelerator
        device = jax.local_devices()[0]
    return _placed(x, jax.sharding.SingleDeviceSharding(device))


def _listing(damaged: dict[int, str]) -> str:
    return "; ".join(f"{step}: {reason}" for step, reason in sorted(damaged.items()))


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
