"""A training run, from a config to a workdir."""

import logging
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections

from mlp_mixer.data import pipeline
from mlp_mixer.evaluation.classification import Classification
from mlp_mixer.training import metrics, optimizer, parallel, setup
from mlp_mixer.training import workdir as run
from mlp_mixer.training.checkpoint import Checkpoints, latest_step
from mlp_mixer.training.step import TrainState, make_train_step
from mlp_mixer.weights.load import save

log = logging.getLogger(__name__)


def train(config: ml_collections.ConfigDict, workdir: str | Path) -> dict[str, float]:
    """Trains until the end, from where the workdir's last checkpoint left off.

    Returns:
        The scalars of the last evaluation.

    Raises:
        ValueError: the config is not possible, or is not the one the workdir was made with.
        FloatingPointError: loss or gradient became infinite or not a number.
    """
    workdir = Path(workdir)
    run.check(workdir, config)
    mesh = parallel.make_mesh()
    parallel.check_batch_size(config.batch_size, config.accum_steps, mesh)
    train_source, test_source = setup.open_data(config)
    module = setup.make_model(config, len(train_source.class_names))

    per_epoch = len(train_source) / config.batch_size
    total = optimizer.steps(config, "total", per_epoch)
    warmup = optimizer.steps(config, "warmup", per_epoch, optional=True)
    eval_every = optimizer.steps(config, "eval_every", per_epoch)
    checkpoint_every = optimizer.steps(config, "checkpoint_every", per_epoch)
    schedule = optimizer.make_schedule(config.lr, config.decay, total, warmup)
    tx = optimizer.make_optimizer(config, schedule)
    step_fn = make_train_step(
        module,
        tx,
        loss=config.loss,
        label_smoothing=config.label_smoothing,
        accum_steps=config.accum_steps,
        seed=config.seed,
    )
    augment = setup.make_augment(config)
    evaluation = Classification(
        module,
        test_source,
        mesh,
        batch_size=config.batch_size,
        crop_fraction=config.eval_crop,
        loss=config.loss,
    )
    # The first that there is: the workdir's last checkpoint, init_from, random.
    start = latest_step(workdir) or 0
    if start:
        params = jax.eval_shape(lambda: setup.random_params(config, module))
    else:
        params = setup.initial_params(config, module)

    # Only now, with everything checked, is anything written.
    run.claim(workdir, config, train_source.class_names)
    checkpoints = Checkpoints(workdir, keep=config.keep_checkpoints)
    everywhere = parallel.replicated(mesh)

    def new_state(params):
        return TrainState(jnp.zeros((), jnp.int32), params, tx.init(params))

    if start:
        state = checkpoints.restore(start, jax.eval_shape(new_state, params), everywhere)
    else:
        state = jax.jit(new_state, out_shardings=everywhere)(params)
    parameters = sum(x.size for x in jax.tree.leaves(state.params))
    log.info(
        "%s: %d examples to train on, %d to test on, %d classes; %.2f M parameters; "
        "%s of %d steps on %d %s device(s) in %d process(es)",
        train_source.name, len(train_source), len(test_source), module.num_classes,
        parameters / 1e6, f"continuing after step {start}" if start else "start", total,
        mesh.size, jax.default_backend(), jax.process_count(),
    )  # fmt: skip

    train_step = jax.jit(
        step_fn,
        in_shardings=(everywhere, parallel.split(mesh)),
        out_shardings=everywhere,
        donate_argnums=0,
    )
    batches = pipeline.train_batches(
        train_source,
        augment,
        batch_size=config.batch_size,
        seed=config.seed,
        start=start,
        in_memory=config.data.in_memory,
        process=(jax.process_index(), jax.process_count()),
    )
    writer = metrics.Writer(workdir, start)
    meter = metrics.Meter(config.batch_size, total, config.log_every_steps)
    result: dict[str, float] = {}

    def report(step: int, values: dict[str, float] | None) -> None:
        if values:
            values["lr"] = float(schedule(step - 1))
            log.info("%s", metrics.log_line(step, total, values))
            writer.scalars(step, {f"train/{name}": value for name, value in values.items()})

    try:
        with metrics.progress(start, total) as bar:
            for step in range(start + 1, total + 1):
                batch = parallel.to_devices(next(batches), mesh)
                state, values = train_step(state, batch)
                report(step - 1, meter.add(step, values))
                bar.update()
                evaluate = step % eval_every == 0 or step == total
                if evaluate or step % checkpoint_every == 0:
                    meter.flush()  # raises where the state is not finite, before it is saved
                    paused = time.perf_counter()
                    if evaluate:
                        result = evaluation.run(state.params)
                        log.info("step %d/%d  test accuracy %.4f  test loss %.4f",
                                     step, total, result["accuracy"], result["loss"])  # fmt: skip
                        writer.scalars(step, {f"test/{k}": v for k, v in result.items()})
                    # After the evaluation: its metrics are written when the checkpoint exists.
                    if step % checkpoint_every == 0 or step == total:
                        checkpoints.save(step, state)
                    meter.pause(time.perf_counter() - paused)
        report(total, meter.finish())
    finally:
        writer.close()
        checkpoints.close()
    if not result:
        log.info("the run in %s was finished already", workdir)
        result = evaluation.run(state.params)
    if jax.process_index() == 0:
        save(workdir / run.WEIGHTS_FILE, state.params, module)
    return result
