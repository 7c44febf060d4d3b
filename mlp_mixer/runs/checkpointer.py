"""Saves and restores the state of a run: step, parameters and optimizer state, by Orbax.

Saving is asynchronous. Orbax writes the arrays, which are then read back and compared with what was
saved; then come the digests of all files, in SHA256SUMS, the marker that makes the folder a
checkpoint. No folder is ever renamed, as a bucket cannot do that. Deleting begins with the marker,
and older checkpoints are deleted only when the new one exists.
"""

import json
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from os import PathLike
from typing import Any

import jax
import numpy as np

from mlp_mixer.runs import digests
from mlp_mixer.runs.bucket_lock import LostLock
from mlp_mixer.runs.checkpoints import (
    BEST_FILE,
    Best,
    TrainState,
    all_steps,
    best,
    folder_of,
    latest_step,
    listing,
    on_host,
    placed,
    read_item,
    what_is_wrong,
)
from mlp_mixer.runs.orbax_errors import SILENT_THREADS, in_a_line
from mlp_mixer.runtime import visible_log
from mlp_mixer.runtime.processes import from_process_0
from mlp_mixer.runtime.storage import (
    AnyPath,
    is_address,
    names,
    remove_tree,
    write_text,
)

with visible_log.root_as_it_is():
    import orbax.checkpoint as ocp

log = logging.getLogger(__name__)

# In a folder that was a damaged checkpoint: what was wrong with it. It stays for a person to look
# at, until the run comes to that step again.
DAMAGED_FILE = "DAMAGED"
_DAMAGED = ".damaged"  # how earlier versions marked such a folder, by renaming it
_UNFINISHED = ".orbax-checkpoint-tmp"  # in the names of what they were writing

# Without renaming, also of what is inside; the marker makes Orbax's own unnecessary.
_IN_PLACE = ocp.path.atomicity.CommitFileTemporaryPath


class Misfit(ValueError):
    """A checkpoint that is whole, but of another model."""


class Checkpointer:
    """Saves and restores the states of one run, which must hold the workdir's lock.

    In several processes all call the same methods in the same order.
    """

    def __init__(
        self,
        workdir: str | PathLike,
        keep: int = 1,
        check_lock: Callable[[], None] = lambda: None,
    ):
        """Opens the checkpoints of a run; what a killed run has left half-done is deleted.

        Args:
            workdir: of the run.
            keep: how many of the newest checkpoints stay.
            check_lock: called in process 0 before anything is written or deleted; raises an error
                if the workdir's lock is lost.

        Raises:
            ValueError: `keep` is not positive.
        """
        if keep < 1:
            raise ValueError(f"keep_checkpoints={keep}, but the newest must be kept: 1 or more")
        self._workdir, self._folder = workdir, folder_of(workdir)
        self._keep, self._check_lock = keep, check_lock
        self._newest: int | None = None  # the step that was restored or saved last
        self._orbax = ocp.AsyncCheckpointer(
            ocp.CompositeCheckpointHandler(
                composite_options=ocp.CompositeOptions(temporary_path_class=_IN_PLACE)
            ),
            temporary_path_class=_IN_PLACE,
        )
        self._background = ThreadPoolExecutor(1)
        self._saving: tuple[int, Future] | None = None
        self._damaged: set[int] = set()  # steps whose folders were set aside; in process 0
        if jax.process_index() == 0:
            check_lock()
            self._folder.mkdir(parents=True, exist_ok=True)
            self._delete_unfinished()

    def _delete_unfinished(self) -> None:
        for name in names(self._folder):
            path = self._folder / name
            if not path.is_dir() or name.endswith(_DAMAGED):
                continue
            if name.isdecimal() and (path / DAMAGED_FILE).exists():
                self._damaged.add(int(name))
            # Only what a run can have left; a person may have put other folders here.
            elif not digests.is_sealed(path) and (name.isdecimal() or _UNFINISHED in name):
                log.info("%s was not finished, and is deleted", path)
                remove_tree(path)

    def __enter__(self) -> "Checkpointer":
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

    def save(
        self, step: int, state: TrainState, before_marker: Callable[[], None] = lambda: None
    ) -> None:
        """Copies the state to the host and writes it in the background.

        Args:
            step: of the state.
            state: to be saved; its arrays may be given away (donated) when this returns.
            before_marker: called in process 0, in the background, just before the checkpoint
                exists, for what must be in the workdir by then.

        Raises:
            OSError: this checkpoint, or the one before it, could not be written.
        """
        if step == self._newest:
            return
        self.wait()
        if jax.process_index() == 0:
            self._check_lock()
        # Orbax would make a new one, without the rest of the run.
        if not is_address(self._folder) and not self._folder.is_dir():
            raise OSError(f"{self._folder} has vanished, so step {step} cannot be saved")
        lanes = digests.start(state)
        items = {"params": state.params, "opt_state": state.opt_state}
        like = jax.tree.map(on_host, items)
        args = {name: ocp.args.StandardSave(item) for name, item in items.items()}
        try:
            from_process_0(lambda: self._make_room(step))
            self._orbax.save(self._path(step), args=ocp.args.Composite(**args))
        except Exception as error:  # tensorstore raises bare Exception
            raise self._unwritten(step, error) from error
        self._newest = step
        finish = self._background.submit(self._finish, step, lanes, like, before_marker)
        self._saving = step, finish

    def _make_room(self, step: int) -> int:
        """Deletes the damaged checkpoint of this step, if there is one; asks no bucket."""
        if step in self._damaged:
            self._damaged.remove(step)
            remove_tree(self._path(step))
        return step

    def _finish(
        self,
        step: int,
        lanes: dict[str, Any],
        like: dict[str, Any],
        before_marker: Callable[[], None],
    ) -> None:
        self._orbax.wait_until_finished()  # until the parts of all processes are there
        if jax.process_index():
            return
        arrays = digests.finish(lanes)
        folder, found = self._path(step), {}
        found["step"] = arrays["step"]  # the one thing that is not an array there
        for name, item in like.items():
            found |= digests.of_arrays({name: read_item(folder / name, item)})
        if changed := digests.changed(arrays, found):
            raise OSError(f"what is there is not what was written: {changed}")
        digests.write_arrays(folder, step, arrays)
        sums = digests.of_files(folder)
        before_marker()
        self._check_lock()
        digests.seal(folder, sums)
        log.info("checkpoint %d is written and verified", step)
        self._delete_old()

    def note(self, step: int, scalar: str, value: float) -> None:
        """Keeps the checkpoint of a step for as long as no other has a better value of a scalar.

        To be called by all processes, after `save` of that step and before the next.
        """
        if jax.process_index():
            return
        self._check_lock()
        before = best(self._workdir)
        if before is None or before.scalar != scalar or before.is_beaten_by(value):
            text = json.dumps(Best(step, scalar, value)._asdict())
            write_text(self._folder / BEST_FILE, text + "\n")

    def _delete_old(self) -> None:
        kept = best(self._workdir)
        for old in all_steps(self._workdir)[: -self._keep]:
            if kept and old == kept.step:
                continue
            # The marker first: a run that is killed here must not leave half of a checkpoint.
            digests.unseal(self._path(old))
            remove_tree(self._path(old))

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
        except LostLock:
            raise
        except Exception as error:  # tensorstore raises bare Exception
            raise self._unwritten(step, error) from error

    def close(self) -> None:
        """Does what `wait` does, and closes Orbax: nothing can be saved afterwards."""
        try:
            self.wait()
        finally:
            self._background.shutdown()
            self._orbax.close()

    def restore(self, like: TrainState, shardings: TrainState) -> TrainState | None:
        """Restores the newest state that is not damaged; None if nothing was ever saved.

        Damaged checkpoints that are newer lose their marker, and the log says so.

        Args:
            like: the shapes.
            shardings: how the arrays will lie over devices, whatever they were saved with.

        Raises:
            ValueError: all are damaged, or the newest intact one does not fit `like`; names the
                parameters.
        """
        like = jax.tree.map(placed, like, shardings)
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
            f"no checkpoint in {self._folder} is undamaged: {listing(damaged)}; delete this "
            "folder to go on from the start"
        )

    def _newest_whole(self, damaged: dict[int, str]) -> int | None:
        """Returns the newest step whose files are right; adds those that are not to `damaged`."""
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
            self._check_lock()
            write_text(self._path(step) / DAMAGED_FILE, f"{reason}\n")
            digests.unseal(self._path(step))
            self._damaged.add(step)
            log.error(
                "CHECKPOINT %s IS DAMAGED: %s. Going on from an earlier one; it is marked with a "
                "file %s, and may be deleted.", self._path(step), reason, DAMAGED_FILE,
            )  # fmt: skip

    def _path(self, step: int) -> AnyPath:
        return self._folder / str(step)

    def _unwritten(self, step: int, error: Exception) -> OSError:
        last = latest_step(self._workdir)
        return OSError(
            f"checkpoint {self._path(step)} could not be written ({in_a_line(error)}); the same "
            f"command continues from {'the start' if last is None else f'step {last}'}"
        )


def _check_shapes(stored: Any, wanted: Any, where: AnyPath) -> None:
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
