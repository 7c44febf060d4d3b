"""A training run, from a config to a workdir."""

import itertools
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import jax
import ml_collections
import numpy as np

from mlp_mixer.data import pipeline
from mlp_mixer.data.sources import Source
from mlp_mixer.evaluation import evaluators
from mlp_mixer.models.mixer import MlpMixer
from mlp_mixer.training import fields, initial, metrics, same_data, setup, visible_log
from mlp_mixer.training import workdir as run
from mlp_mixer.training.checkpoint import Checkpoints, latest_step
from mlp_mixer.training.preemption import Interrupted, Preemption
from mlp_mixer.training.setup import Recipe
from mlp_mixer.training.step import TrainState
from mlp_mixer.weights.save import save

log = logging.getLogger(__name__)


def train(config: ml_collections.ConfigDict, workdir: str | Path) -> dict[str, float]:
    """Trains until the end, from where the workdir's last checkpoint left off.

    Returns:
        The scalars of the last evaluation, such as "test/accuracy".

    Raises:
        ValueError: the config is not possible, the workdir was made with another one or on other
            data, another run is in it, or an evaluation failed.
        FloatingPointError: loss or gradient became infinite or not a number.
        OSError: a checkpoint could not be written.
        SystemExit: the process was asked to end, and the state is saved; see `preemption`.
    """
    config, workdir = fields.check(config), Path(workdir).expanduser()
    with visible_log.SHOWN, run.lock(workdir):
        start = run.from_process_0(lambda: latest_step(workdir) or 0)
        if start:
            run.check(workdir, config)
        elif run.from_process_0(lambda: run.is_finished(workdir)):
            raise ValueError(
                f"{workdir} holds a finished run without its checkpoints; choose another workdir "
                "to train anew, or delete this one"
            )
        config = initial.with_trained_sizes(config, run.read_config(workdir) if start else None)
        source = setup.open_data(config)
        recipe = setup.make_recipe(config, len(source.class_names), len(source))
        evaluations = evaluators.make(config, recipe.module, recipe.layout.mesh, source.class_names)
        same_data.check(workdir, config, source, start)
        first = FirstState(config, recipe, source.class_names, start)
        if run.from_process_0(lambda: run.is_finished(workdir)):
            log.info("the run in %s was finished already; it is evaluated again", workdir)
        # Only now, with everything checked, is anything written.
        with Preemption() as preemption:
            run.claim(workdir, config, source.class_names)
            same_data.record(workdir, source, start)
            with Checkpoints(workdir, keep=config.keep_checkpoints) as checkpoints:
                training = _Training(config, recipe, evaluations, workdir, checkpoints, preemption)
                return training.run(source, first)


class FirstState:
    """The state that a run begins with: the workdir's last checkpoint, init_from, or random."""

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        recipe: Recipe,
        class_names: tuple[str, ...],
        start: int,
    ):
        self._config, self._recipe, self.is_saved = config, recipe, bool(start)
        self._class_names = class_names
        params = jax.eval_shape(lambda: setup.random_params(config, recipe.module))
        self.like = jax.eval_shape(recipe.new_state, params)
        self._shardings = recipe.layout.shardings(self.like)
        self._params = None
        if config.init_from and not self.is_saved:  # now, because they may be wrong
            self._params = initial.parameters(config, recipe.module, class_names)

    def restore(self, checkpoints: Checkpoints) -> TrainState:
        return checkpoints.restore(self.like, self._shardings)

    def make(self) -> TrainState:
        params, self._params = self._params, None  # two copies may not fit
        shardings = self._shardings
        if params is None:
            params = initial.parameters(
                self._config, self._recipe.module, self._class_names, shardings.params
            )
        else:
            params = jax.jit(lambda params: params, out_shardings=shardings.params)(params)
        # Array by array, as the parameters are: a program that makes all arrays of a deep model
        # takes longer to compile than they take to make.
        return jax.device_put(self._recipe.new_state(params), shardings)


def _log_start(recipe: Recipe, source: Source, like: TrainState, start: int) -> None:
    parameters = sum(x.size for x in jax.tree.leaves(like.params))
    log.info(
        "%s: %d examples to train on, %d classes; %.2f M parameters; %s of %d steps on %d %s "
        "device(s) in %d process(es)",
        source.name, len(source), recipe.module.num_classes, parameters / 1e6,
        f"continuing after step {start}" if start else "start", recipe.total_steps,
        recipe.layout.mesh.size, jax.default_backend(), jax.process_count(),
    )  # fmt: skip


class _Training:
    """The steps that are left of a run, and what is due between them."""

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        recipe: Recipe,
        evaluations: dict[str, evaluators.Scheduled],
        workdir: Path,
        checkpoints: Checkpoints,
        preemption: Preemption,
    ):
        self._config, self._recipe, self._workdir = config, recipe, workdir
        self._evaluations, self._checkpoints = evaluations, checkpoints
        self._preemption = preemption
        self._meter = metrics.Meter(config.batch_size, recipe.total_steps, config.log_every_steps)

    def run(self, source: Source, first: FirstState) -> dict[str, float]:
        """Takes the steps that are left; the scalars of the last evaluation."""
        total = self._recipe.total_steps
        # Maybe at an earlier step than the newest checkpoint's, see `restore`.
        state = first.restore(self._checkpoints) if first.is_saved else None
        start = int(state.step) if first.is_saved else 0
        self._writer = metrics.Writer(self._workdir, start)
        try:
            _log_start(self._recipe, source, first.like, start)
            if start < total:
                state = self._train(source, first, state, start)
            self._save_weights(source, state)
            result = self._evaluate(total, state)
        finally:
            self._writer.close()
        self._checkpoints.wait()
        run.mark_finished(self._workdir, total)
        return result

    def _train(
        self, source: Source, first: FirstState, state: TrainState | None, start: int
    ) -> TrainState:
        """The state after the last step, which is saved, or on its way, but not evaluated."""
        layout, total = self._recipe.layout, self._recipe.total_steps
        # A run that was asked to end has left the evaluation that was under way.
        if start and self._evaluation_is_due(start) and not self._was_evaluated(start):
            self._evaluate(start, state)
        batches = self._batches(source, start)
        if state is None:
            state, train_step, batches = self._begin(first, batches)
        else:
            train_step = layout.jit_step(self._recipe.step, state)
        profile = metrics.Profile(self._workdir, start, self._config.profile_steps)
        with metrics.progress(start, total) as bar, profile:
            for step in range(start + 1, total + 1):
                batch = layout.to_devices(self._next(batches, step, state))
                state, values = train_step(state, batch)
                self._report(step - 1, self._meter.add(step, values))
                profile.after(step)
                bar.update()
                evaluate = self._evaluation_is_due(step) and step < total
                save = step % self._recipe.checkpoint_every == 0 or step == total
                if evaluate or save:
                    # Raises where the state is not finite: not saved then. And the report of a step
                    # is written before its checkpoint exists, so that a kill loses neither.
                    self._report(step, self._meter.flush(step))
                    paused = time.perf_counter()
                    if save:
                        self._checkpoints.save(step, layout.to_global(state))
                    if evaluate:  # when the step is safe: an evaluation may fail
                        self._evaluate(step, state)
                    self._meter.pause(time.perf_counter() - paused)
                self._checkpoints.check()
                if step < total and self._preemption.reached(step):
                    self._stop(step, state)
        return state

    def _begin(
        self, first: FirstState, batches: Iterator[dict[str, np.ndarray]]
    ) -> tuple[TrainState, Callable, Iterator[dict[str, np.ndarray]]]:
        """A run's first state, the step, and the batches, of which one was needed to compile it."""
        layout, step = self._recipe.layout, self._recipe.step
        batch = self._next(batches, 1, None)
        with ThreadPoolExecutor(1) as pool:
            state = pool.submit(first.make)  # for a large model it takes as long as to compile
            lowered = layout.lower_step(step, first.like, layout.to_devices(batch))
            train_step = lowered.compile() if lowered else layout.jit_step(step, first.like)
            return state.result(), train_step, itertools.chain([batch], batches)

    def _batches(self, source: Source, start: int) -> Iterator[dict[str, np.ndarray]]:
        config = self._config
        return pipeline.train_batches(
            source,
            setup.make_augment(config),
            batch_size=config.batch_size,
            seed=config.seed,
            start=start,
            in_memory=config.data.in_memory,
            workers=config.data.workers,
            skip_broken=config.data.skip_broken,
            process=(jax.process_index(), jax.process_count()),
        )

    def _next(
        self, batches: Iterator, step: int, state: TrainState | None
    ) -> dict[str, np.ndarray]:
        try:
            return next(batches)
        except ChildProcessError:
            # A SIGTERM to a whole group of processes ends those that load images first.
            if jax.process_count() == 1 and self._preemption.reached(step - 1):
                self._stop(step - 1, state)
            raise

    def _evaluation_is_due(self, step: int) -> bool:
        return step % self._recipe.eval_every == 0 or step == self._recipe.total_steps

    def _was_evaluated(self, step: int) -> bool:
        return bool(run.from_process_0(lambda: metrics.evaluated(self._workdir, step)))

    def _evaluate(self, step: int, state: TrainState) -> dict[str, float]:
        total = self._recipe.total_steps
        params = self._recipe.layout.to_everywhere(state.params)
        try:
            with self._preemption.interrupting():
                result = evaluators.run(self._evaluations, params, step, is_last=step == total)
        except Interrupted:
            self._stop(step, state)
        except ValueError:
            if jax.process_count() == 1:  # others may be in the evaluation still
                self._checkpoints.save(step, self._recipe.layout.to_global(state))
            raise
        if result:  # all evaluators may wait for the end
            log.info("step %d/%d  %s", step, total, evaluators.log_line(result))
            self._writer.scalars(step, result)
        return result

    def _report(self, step: int, values: dict[str, float] | None) -> None:
        if values:
            values["lr"] = float(self._recipe.schedule(step - 1))
            log.info("%s", metrics.log_line(step, self._recipe.total_steps, values))
            self._writer.scalars(step, {f"train/{name}": x for name, x in values.items()})

    def _save_weights(self, source: Source, state: TrainState) -> None:
        """In the published format, which is for Mixers, and cannot say that pixels are permuted."""
        params = self._recipe.layout.to_everywhere(state.params)
        if jax.process_index() == 0 and isinstance(self._recipe.module, MlpMixer):
            save(
                self._workdir / run.WEIGHTS_FILE,
                self._recipe.module,
                params,
                class_names=source.class_names,
                crop=self._config.eval_crop,
                crop_fraction=self._config.eval_crop_fraction,
                loss=self._config.loss,
            )

    def _stop(self, step: int, state: TrainState | None) -> NoReturn:
        """Ends the process; without a state, before the first step, there is nothing to save."""
        if state is not None:
            self._report(step, self._meter.finish(step))
            self._checkpoints.save(step, self._recipe.layout.to_global(state))
            self._checkpoints.wait()
        self._preemption.exit(step)
