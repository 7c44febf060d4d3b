"""A training run, from a config to a workdir."""

import logging
import time
from pathlib import Path

import jax
import ml_collections

from mlp_mixer.data import pipeline
from mlp_mixer.data.sources import Source
from mlp_mixer.evaluation import evaluators
from mlp_mixer.models.mixer import MlpMixer
from mlp_mixer.training import metrics, setup
from mlp_mixer.training import workdir as run
from mlp_mixer.training.checkpoint import Checkpoints, latest_step
from mlp_mixer.training.preemption import Interrupted, Preemption
from mlp_mixer.training.setup import Recipe
from mlp_mixer.training.step import TrainState
from mlp_mixer.weights.load import save

log = logging.getLogger(__name__)


def train(config: ml_collections.ConfigDict, workdir: str | Path) -> dict[str, float]:
    """Trains until the end, from where the workdir's last checkpoint left off.

    Returns:
        The scalars of the last evaluation, such as "test/accuracy".

    Raises:
        ValueError: the config is not possible, or is not the one the workdir was made with.
        FloatingPointError: loss or gradient became infinite or not a number.
        OSError: a checkpoint could not be written.
        SystemExit: the process was asked to end, and the state is saved; see `preemption`.
    """
    workdir = Path(workdir)
    run.check(workdir, config)
    source = setup.open_data(config)
    recipe = setup.make_recipe(config, len(source.class_names), len(source))
    evaluations = evaluators.make(config, recipe.module, recipe.layout.mesh)
    start = latest_step(workdir) or 0
    params = _first_params(config, recipe, start)
    # Only now, with everything checked, is anything written.
    with run.lock(workdir), Preemption() as preemption:
        run.claim(workdir, config, source.class_names)
        with Checkpoints(workdir, keep=config.keep_checkpoints) as checkpoints:
            state = _first_state(recipe, params, start, checkpoints)
            del params  # the state has them; two copies may not fit
            _log_start(recipe, source, state)
            state, result = _steps(
                config, recipe, source, evaluations, state, workdir, checkpoints, preemption
            )
        params = recipe.layout.to_everywhere(state.params)
        if not result:
            log.info("the run in %s was finished already", workdir)
            result = evaluators.run(evaluations, params, recipe.total_steps)
        # The published format is for Mixers, and cannot say that one sees permuted pixels.
        if jax.process_index() == 0 and isinstance(recipe.module, MlpMixer):
            save(workdir / run.WEIGHTS_FILE, params, recipe.module)
    return result


def _first_params(config: ml_collections.ConfigDict, recipe: Recipe, start: int):
    """The first that there is: the workdir's last checkpoint (its shapes), init_from, random."""
    if start:
        return jax.eval_shape(lambda: setup.random_params(config, recipe.module))
    return setup.initial_params(config, recipe.module)


def _first_state(recipe: Recipe, params, start: int, checkpoints: Checkpoints) -> TrainState:
    like = jax.eval_shape(recipe.new_state, params)
    shardings = recipe.layout.shardings(like)
    if start:
        return checkpoints.restore(like, shardings)
    return jax.jit(recipe.new_state, out_shardings=shardings)(params)


def _log_start(recipe: Recipe, source: Source, state: TrainState) -> None:
    start = int(state.step)
    parameters = sum(x.size for x in jax.tree.leaves(state.params))
    log.info(
        "%s: %d examples to train on, %d classes; %.2f M parameters; %s of %d steps on %d %s "
        "device(s) in %d process(es)",
        source.name, len(source), recipe.module.num_classes, parameters / 1e6,
        f"continuing after step {start}" if start else "start", recipe.total_steps,
        recipe.layout.mesh.size, jax.default_backend(), jax.process_count(),
    )  # fmt: skip


def _steps(
    config: ml_collections.ConfigDict,
    recipe: Recipe,
    source: Source,
    evaluations: dict[str, evaluators.Evaluator],
    state: TrainState,
    workdir: Path,
    checkpoints: Checkpoints,
    preemption: Preemption,
) -> tuple[TrainState, dict[str, float]]:
    """All steps that are left, with what is due between them."""
    layout, total, start = recipe.layout, recipe.total_steps, int(state.step)
    train_step = layout.jit_step(recipe.step, state)
    batches = pipeline.train_batches(
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
    writer = metrics.Writer(workdir, start)
    meter = metrics.Meter(config.batch_size, total, config.log_every_steps)
    result: dict[str, float] = {}

    def report(step: int, values: dict[str, float] | None) -> None:
        if values:
            values["lr"] = float(recipe.schedule(step - 1))
            log.info("%s", metrics.log_line(step, total, values))
            writer.scalars(step, {f"train/{name}": value for name, value in values.items()})

    def is_due(step: int) -> bool:
        return step % recipe.eval_every == 0 or step == total

    def evaluated_already() -> bool:
        return metrics.evaluated(workdir, start)

    def evaluate(step: int) -> None:
        nonlocal result
        params = layout.to_everywhere(state.params)
        try:
            with preemption.interrupting():
                result = evaluators.run(evaluations, params, step, is_last=step == total)
        except Interrupted:
            stop(step)
        if result:  # all evaluators may wait for the end
            log.info("step %d/%d  %s", step, total, evaluators.log_line(result))
            writer.scalars(step, result)

    def stop(step: int) -> None:
        report(step, meter.finish(step))
        checkpoints.save(step, layout.to_global(state))
        checkpoints.wait()
        preemption.exit(step)

    try:
        # A run that was asked to end leaves the evaluation that is under way, and saves.
        if start and is_due(start) and not run.from_process_0(evaluated_already):
            evaluate(start)
        with metrics.progress(start, total) as bar:
            for step in range(start + 1, total + 1):
                batch = layout.to_devices(next(batches))
                state, values = train_step(state, batch)
                report(step - 1, meter.add(step, values))
                bar.update()
                if is_due(step) or step % recipe.checkpoint_every == 0:
                    meter.flush()  # raises where the state is not finite, before it is saved
                    paused = time.perf_counter()
                    if is_due(step):
                        evaluate(step)
                    # After the evaluation: its metrics are written when the checkpoint exists.
                    if step % recipe.checkpoint_every == 0 or step == total:
                        checkpoints.save(step, layout.to_global(state))
                    meter.pause(time.perf_counter() - paused)
                checkpoints.check()
                if step < total and preemption.reached(step):
                    stop(step)
        report(total, meter.finish(total))
    finally:
        writer.close()
    return state, result
