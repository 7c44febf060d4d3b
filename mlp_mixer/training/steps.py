"""All steps of a run, and what is due between them: reports, checkpoints, evaluations.

`training.step` has what one step computes, `training.loop` what comes before the first one.
"""

import itertools
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import jax
import ml_collections
import numpy as np

from mlp_mixer.data import pipeline
from mlp_mixer.data.sources import Source
from mlp_mixer.evaluation import evaluators
from mlp_mixer.models.mixer import MlpMixer
from mlp_mixer.runs import folder, metrics, trackers
from mlp_mixer.runs.checkpointer import Checkpointer
from mlp_mixer.runs.checkpoints import TrainState
from mlp_mixer.runtime.processes import from_process_0
from mlp_mixer.runtime.storage import AnyPath
from mlp_mixer.training import progress
from mlp_mixer.training.averaging import averaged
from mlp_mixer.training.heartbeat import Heartbeat
from mlp_mixer.training.preemption import Interrupted, Preemption
from mlp_mixer.training.recipe import Recipe, make_augment
from mlp_mixer.weights.save import save

log = logging.getLogger(__name__)

Batches = Iterator[dict[str, np.ndarray]]


def _parameters_of(state: TrainState) -> dict[str, Any]:
    """Returns what is evaluated and saved: the parameters and, if there is one, their average.

    Returns:
        Trees by the prefix that scalars of their evaluations get.
    """
    average = averaged(state.opt_state)
    return (
        {"": state.params}
        if average is None
        else {"": state.params, folder.AVERAGE_PREFIX: average}
    )


class Steps:
    """The remaining steps of a run, and what is due between them and after the last one."""

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        recipe: Recipe,
        source: Source,
        workdir: AnyPath,
        start: int,
        evaluations: dict[str, evaluators.Scheduled],
        checkpoints: Checkpointer,
        writer: metrics.Writer,
        tracking: trackers.Tracking,
        preemption: Preemption,
        view: progress.View | None,
        heartbeat: Heartbeat,
    ):
        self._config, self._recipe, self._source = config, recipe, source
        self._workdir, self._start = workdir, start
        self._evaluations, self._checkpoints = evaluations, checkpoints
        self._writer, self._tracking, self._preemption = writer, tracking, preemption
        self._view, self._heartbeat = view, heartbeat
        self._meter = progress.Meter(config.batch_size, recipe.total_steps, config.log_every_steps)

    def take(
        self,
        restored: TrainState | None,
        new_state: Callable[[], TrainState],
        like: TrainState,
        *teacher: Any,
    ) -> TrainState:
        """Trains from `restored` or, if that is None, from new_state().

        `teacher` is the parameters of the teacher, on the devices, if there is one.

        Returns:
            The state after the last step. It is saved, or being saved, but not evaluated.
        """
        layout, start, total = self._recipe.layout, self._start, self._recipe.total_steps
        if restored is not None:
            if start == total:
                return restored
            # A run that was asked to end may have interrupted its evaluation.
            if self._evaluation_is_due(start) and not self._was_evaluated(start):
                self.evaluate(start, restored)
        self._heartbeat.doing("reading the first batch")
        batches = self._batches()
        with ThreadPoolExecutor(1) as pool:  # making a large state takes long
            making = pool.submit(lambda: new_state() if restored is None else restored)
            first = self._next(batches, start + 1, restored)
            self._heartbeat.doing("compiling")
            began = time.perf_counter()
            step_fn = layout.compile_step(
                self._recipe.step, like, layout.to_devices(first), *teacher
            )
            state = making.result()
        self._meter.compiled(time.perf_counter() - began)
        self._heartbeat.training(self._meter.newest)
        batches = itertools.chain([first], batches)
        profile = progress.Profile(self._workdir, start, self._config.profile_steps)
        with progress.bar(start, total, self._view) as bar, profile:
            for step in range(start + 1, total + 1):
                batch = layout.to_devices(self._next(batches, step, state))
                state, values = step_fn(state, batch, *teacher)
                self._report(step - 1, self._meter.add(step, values))
                profile.after(step)
                bar.update()
                evaluate = self._evaluation_is_due(step) and step < total
                save = step % self._recipe.checkpoint_every == 0 or step == total
                save = save or (evaluate and bool(self._config.keep_best))
                if evaluate or save:
                    # Before saving, because it raises if the state is not finite, and because the
                    # report of a step must exist before its checkpoint, lest a kill lose it.
                    self._report(step, self._meter.flush(step))
                    paused = time.perf_counter()
                    if save:
                        self._save(step, state)
                    if evaluate:  # after saving, because an evaluation may fail
                        self.evaluate(step, state)
                    self._meter.pause(time.perf_counter() - paused)
                self._checkpoints.check()
                if step < total and self._preemption.reached(step):
                    self._stop(step, state)
        return state

    def evaluate(self, step: int, state: TrainState) -> dict[str, float]:
        """Runs the evaluations that are due, and records their scalars."""
        total = self._recipe.total_steps
        self._heartbeat.doing(f"evaluating after step {step}/{total}")
        result: dict[str, float] = {}
        try:
            with self._preemption.interrupting():
                for prefix, tree in _parameters_of(state).items():
                    params = self._recipe.layout.to_everywhere(tree)
                    found = evaluators.run(self._evaluations, params, step, is_last=step == total)
                    result |= {prefix + name: value for name, value in found.items()}
        except Interrupted:
            self._stop(step, state)
        except Exception:  # even if it is a bug, no step may be lost
            if jax.process_count() == 1:  # other processes may still be evaluating
                self._save(step, state)
            raise
        self._heartbeat.training(self._meter.newest)
        if result:  # empty if all evaluators wait for the end
            log.info("step %d/%d  %s", step, total, evaluators.log_line(result))
            self._record(step, result)
        self._note_best(step, result)
        return result

    def _note_best(self, step: int, result: dict[str, float]) -> None:
        """Keeps the checkpoint of a step if its evaluation was the best so far."""
        best = self._config.keep_best
        if best in result:
            self._checkpoints.note(step, best, result[best])
        elif has := [name for name in result if best and name.startswith(best.split("/")[0] + "/")]:
            raise ValueError(f"keep_best={best}, but the evaluation has {', '.join(has)}")

    def save_weights(self, state: TrainState) -> None:
        """Writes weights in the published format, if the model is a Mixer without permutation."""
        files = {"": folder.WEIGHTS_FILE, folder.AVERAGE_PREFIX: folder.AVERAGE_FILE}
        for prefix, tree in _parameters_of(state).items():
            params = self._recipe.layout.to_everywhere(tree)
            if jax.process_index() == 0 and isinstance(self._recipe.module, MlpMixer):
                save(
                    self._workdir / files[prefix],
                    self._recipe.module,
                    params,
                    class_names=self._source.class_names,
                    crop=self._config.eval_crop,
                    crop_fraction=self._config.eval_crop_fraction,
                    loss=self._config.loss,
                )

    def show_predictions(self, draw_sheet: Callable[[AnyPath, int], metrics.Picture]) -> None:
        """Gives TensorBoard a sheet of predictions; whatever prevents that is only a warning.

        Runs of several processes get none.
        """
        if jax.process_count() > 1:
            return
        self._heartbeat.doing("drawing predictions")
        try:
            sheet = draw_sheet(self._workdir, self._config.sheet_examples)
            self._writer.picture("predictions", self._recipe.total_steps, sheet)
        except Exception as error:  # even a bug in drawing is not worth a finished run
            log.warning(
                "TensorBoard gets no sheet of predictions (%s: %s)", type(error).__name__, error
            )

    def _batches(self) -> Batches:
        config = self._config
        return pipeline.train_batches(
            self._source,
            make_augment(config),
            batch_size=config.batch_size,
            seed=config.seed,
            start=self._start,
            in_memory=config.data.in_memory,
            reading=pipeline.Reading(
                process=(jax.process_index(), jax.process_count()),
                workers=config.data.workers,
                skip_broken=config.data.skip_broken,
            ),
        )

    def _next(self, batches: Batches, step: int, state: TrainState | None) -> dict[str, np.ndarray]:
        """Returns the batch of a step; `state` is the state before it, if there is one to save."""
        try:
            return next(batches)
        except ChildProcessError:
            # A SIGTERM to the whole process group ends the image loading workers first.
            if jax.process_count() == 1 and self._preemption.reached(step - 1):
                self._stop(step - 1, state)
            raise

    def _evaluation_is_due(self, step: int) -> bool:
        return step % self._recipe.eval_every == 0 or step == self._recipe.total_steps

    def _was_evaluated(self, step: int) -> bool:
        return bool(from_process_0(lambda: metrics.evaluated(self._workdir, step)))

    def _report(self, step: int, values: dict[str, float] | None) -> None:
        if values:
            values["lr"] = float(self._recipe.schedule(step - 1))
            line = progress.log_line(step, self._recipe.total_steps, values)
            if self._view:
                self._view.report(line)
            log.log(logging.DEBUG if self._view else logging.INFO, "%s", line)
            self._record(step, {f"train/{name}": x for name, x in values.items()})

    def _record(self, step: int, values: dict[str, float]) -> None:
        self._writer.scalars(step, values)
        self._tracking.scalars(step, values)
        if self._view:
            self._view.scalars(step, values)
        self._heartbeat.told()

    def _save(self, step: int, state: TrainState) -> None:
        # A checkpoint exists only when the reports of its steps are in the workdir, too.
        state = self._recipe.layout.to_global(state)
        self._checkpoints.save(step, state, before_marker=self._writer.flush)

    def _stop(self, step: int, state: TrainState | None) -> NoReturn:
        """Saves the state, if there is one yet, and ends the process."""
        if state is not None:
            self._report(step, self._meter.finish(step))
            self._save(step, state)
            self._checkpoints.wait()
        self._preemption.exit(step)
