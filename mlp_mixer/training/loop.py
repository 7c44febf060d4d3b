"""Runs a config in a workdir: what is done in which order, from the config to the last weights."""

import contextlib
import logging
import textwrap
from collections.abc import Callable, Iterable
from os import PathLike

import jax
import ml_collections

from mlp_mixer.data import crews
from mlp_mixer.data.images import BrokenImage
from mlp_mixer.data.sources import Source
from mlp_mixer.evaluation import evaluators
from mlp_mixer.runs import folder, lock, metrics, starts, trackers
from mlp_mixer.runs.checkpointer import Checkpointer
from mlp_mixer.runs.checkpoints import TrainState, latest_step
from mlp_mixer.runtime import visible_log
from mlp_mixer.runtime.processes import from_process_0
from mlp_mixer.runtime.storage import AnyPath, as_path
from mlp_mixer.training import fields, initial, progress, resume
from mlp_mixer.training.heartbeat import Heartbeat
from mlp_mixer.training.preemption import Preemption
from mlp_mixer.training.recipe import Recipe, make_recipe, open_data
from mlp_mixer.training.steps import Steps
from mlp_mixer.training.teacher import load_teacher

log = logging.getLogger(__name__)


def train(
    config: ml_collections.ConfigDict,
    workdir: str | PathLike,
    view: progress.View | None = None,
    draw_sheet: Callable[[AnyPath, int], metrics.Picture] | None = None,
) -> dict[str, float]:
    """Trains to the end, starting from the workdir's last checkpoint if there is one.

    Args:
        config: of the experiment; see configs/common.py.
        workdir: folder of the run.
        view: shows the run to somebody, in process 0.
        draw_sheet: given the workdir and config.sheet_examples, draws predictions for TensorBoard
            when all steps are done; not in runs of several processes.

    Returns:
        The scalars of the last evaluation, such as "test/accuracy".

    Raises:
        ValueError: the config is invalid, the workdir holds a run of another config or on other
            data, another process is using it, or an evaluation failed.
        FloatingPointError: the loss or a gradient became infinite or not a number.
        OSError: a checkpoint could not be written.
        SystemExit, preemption.Stopped: the process or the notebook's cell was asked to end, and the
            state is saved.
    """
    config, workdir = fields.check(config), as_path(workdir)
    with visible_log.SHOWN, lock.hold(workdir) as held:
        # First everything is made and checked, before anything is written.
        saved = from_process_0(lambda: latest_step(workdir) or 0)
        finished = bool(from_process_0(lambda: folder.is_finished(workdir)))
        if saved:
            resume.check_config(workdir, config)
        elif finished:
            raise ValueError(
                f"{workdir} holds a finished run without its checkpoints; choose another workdir "
                "to train anew, or delete this one"
            )
        source = open_data(config)  # before the weights, which may have to be downloaded
        config = initial.with_trained_sizes(config, folder.read_config(workdir) if saved else None)
        teacher = load_teacher(config, source.class_names)
        recipe = make_recipe(
            config, len(source.class_names), len(source),
            teacher_module=teacher.module if teacher else None,
        )  # fmt: skip
        evaluations = evaluators.make(config, recipe.module, recipe.layout.mesh, source.class_names)
        _check_keep_best(config, evaluations)
        if not saved:
            from_process_0(lambda: folder.check_free(workdir, source.class_names))
        resume.check_data(workdir, config, source, saved)
        resume.check_teacher(workdir, teacher, saved)
        from_process_0(lambda: trackers.is_usable(config.tracker))
        like = recipe.state_shapes()
        shardings = recipe.layout.shardings(like)

        # The initial state, first match wins:
        #   1. the workdir's newest intact checkpoint;
        #   2. the weights of config.init_from, read now because they may not fit;
        #   3. random parameters from config.seed.
        def parameters() -> dict:
            return recipe.layout.place(
                initial.parameters(config, recipe.module, source.class_names, shardings.params)
            )

        loaded = parameters() if config.init_from and not saved else None

        def new_state() -> TrainState:
            params = parameters() if loaded is None else loaded
            # Array by array, like the parameters: compiling one program that makes all arrays of a
            # deep model takes longer than making them.
            return jax.device_put(recipe.new_state(params), shardings)

        if finished:
            log.info("the run in %s was finished already; it is evaluated again", workdir)
        with Preemption() as preemption:
            held.check()
            folder.claim(workdir, config, source.class_names, is_new=not saved)
            resume.record_data(workdir, source, saved)
            resume.record_teacher(workdir, teacher)
            with (
                # Ended last, because that may wait for a network.
                trackers.Tracking(config.tracker, workdir, config.to_dict()) as tracking,
                starts.recorded(workdir, saved, held.check),
                Checkpointer(workdir, config.keep_checkpoints, held.check) as checkpoints,
            ):
                restored = checkpoints.restore(like, shardings) if saved else None
                # An earlier step than `saved` if that checkpoint is damaged.
                start = int(restored.step) if restored else 0
                _log_start(recipe, source, like, start)
                with (
                    contextlib.closing(metrics.Writer(workdir, start, held.check)) as writer,
                    crews.keep_processes(config.data.workers),
                    view or contextlib.nullcontext(),
                    Heartbeat(logging.DEBUG if view else logging.INFO) as heartbeat,
                ):
                    if view:  # from the first step on, also if this is not the first start
                        for line in metrics.read(workdir):
                            view.scalars(int(line["step"]), line)
                    # Indented, it is a block of code.
                    writer.text("config", textwrap.indent(config.to_json(indent=2), " " * 4))
                    steps = Steps(
                        config, recipe, source, workdir, start, evaluations, checkpoints, writer,
                        tracking, preemption, view, heartbeat,
                    )  # fmt: skip
                    placed = [recipe.layout.place(teacher.params)] if teacher else []
                    try:
                        state = steps.take(restored, new_state, like, *placed)
                    except BrokenImage as error:
                        if config.data.skip_broken:
                            raise
                        raise BrokenImage(
                            f"{error}; --config.data.skip_broken=True leaves such images out, and "
                            "names them"
                        ) from error
                    steps.save_weights(state)
                    result = steps.evaluate(recipe.total_steps, state)
                    checkpoints.wait()
                    has_test = config.evals.get("test", {}).get("enabled", True)
                    if draw_sheet and config.sheet_examples and has_test:
                        steps.show_predictions(draw_sheet)
                    writer.flush()
                held.check()
                folder.mark_finished(workdir, recipe.total_steps)
        return result


def _log_start(recipe: Recipe, source: Source, like: TrainState, start: int) -> None:
    parameters = sum(x.size for x in jax.tree.leaves(like.params))
    log.info(
        "%s: %d examples to train on, %d classes; %.2f M parameters; %s of %d steps on %d %s "
        "device(s) in %d process(es)",
        source.name, len(source), recipe.module.num_classes, parameters / 1e6,
        f"continuing after step {start}" if start else "start", recipe.total_steps,
        recipe.layout.mesh.size, jax.default_backend(), jax.process_count(),
    )  # fmt: skip


def _check_keep_best(config: ml_collections.ConfigDict, evaluations: Iterable[str]) -> None:
    names = [
        prefix + name
        for prefix in ("", folder.AVERAGE_PREFIX)[: 1 + bool(config.ema)]
        for name in evaluations
    ]
    if config.keep_best and config.keep_best.partition("/")[0] not in names:
        raise ValueError(
            f"keep_best={config.keep_best} is not a scalar of an evaluation, such as "
            f"{' or '.join(f'{name}/accuracy' for name in names) or 'test/accuracy'}"
        )
