"""Makes the parts of a run from a config."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from mlp_mixer.data import sources
from mlp_mixer.data.augment import Augment
from mlp_mixer.models import losses
from mlp_mixer.models.architectures import ARCHITECTURES
from mlp_mixer.models.checks import as_pair
from mlp_mixer.models.dtypes import compute_dtype
from mlp_mixer.models.init import init
from mlp_mixer.models.parts import best_parts
from mlp_mixer.models.permuted import Permuted
from mlp_mixer.runs.checkpoints import TrainState
from mlp_mixer.runtime.devices import has_fast_bfloat16
from mlp_mixer.training import layouts, optimizer, teacher
from mlp_mixer.training.mixup import Mixup
from mlp_mixer.training.sam import make_sam
from mlp_mixer.training.step import Step, make_train_step
from mlp_mixer.weights.resize import resize_module

Config: TypeAlias = ml_collections.ConfigDict


def open_data(config: Config) -> sources.Source:
    """Opens the source of training examples.

    Raises:
        ValueError: the data is unusable; or, with the softmax loss, it has a single class, or
            images that do not have exactly one label.
        FileNotFoundError: there is no such folder.
    """
    data = config.data
    train = sources.open_source(data.source, data.train_split, config.image_channels)
    if data.examples_per_class:
        train = sources.take_per_class(train, data.examples_per_class, config.seed)
    if config.loss == "softmax" and not config.teacher:
        _check_labels(train, data.train_split)
    return train


def _check_labels(train: sources.Source, split: str) -> None:
    if len(train.class_names) == 1:
        raise ValueError(
            f"{train.name}: the only class is {train.class_names[0]}, of which softmax learns "
            "nothing. If its subfolders are the classes, move them one level up"
        )
    if (labels := train.labels()).ndim == 2:
        counts = labels.sum(-1)
        if (wrong := np.flatnonzero(counts != 1)).size:
            raise ValueError(
                f"{train.name}: {wrong.size} of {len(train)} examples of {split} do not "
                f"have exactly one label, which loss=softmax needs (example {wrong[0]} has "
                f"{counts[wrong[0]]}); use --config.loss=sigmoid"
            )


def make_augment(config: Config) -> Augment:
    """Makes the data augmentation."""
    return Augment(tuple(config.image_size), **config.augment)


@dataclass(frozen=True)
class Recipe:
    """Everything about a run except its data.

    Attributes:
        module: the model.
        layout: how the step is distributed over devices.
        step: the training step.
        optimizer: the optimizer, including the schedule.
        schedule: maps a step to its learning rate.
        total_steps: updates in the whole run.
        eval_every, checkpoint_every: steps between two evaluations or checkpoints.
    """

    module: Any
    layout: layouts.Replicated
    step: Step
    optimizer: optax.GradientTransformation
    schedule: optimizer.Schedule
    total_steps: int
    eval_every: int
    checkpoint_every: int

    def new_state(self, params: Any) -> TrainState:
        """Returns the state before the first step; may be called under jax.eval_shape."""
        return TrainState(jnp.zeros((), jnp.int32), params, self.optimizer.init(params))

    def state_shapes(self) -> TrainState:
        """Returns the shapes and dtypes of a state, as jax.ShapeDtypeStructs."""
        return jax.eval_shape(lambda: self.new_state(init(self.module)))


def make_recipe(
    config: Config,
    num_classes: int,
    num_examples: int,
    devices: Sequence[jax.Device] | None = None,
    teacher_module: Any = None,
) -> Recipe:
    """Makes everything about a run, except its data, from its config.

    Args:
        config: see configs/common.py.
        num_classes: number of classes in the data set.
        num_examples: number of training examples.
        devices: devices to run on; by default all.
        teacher_module: the model of config.teacher, if there is one; see `training.teacher`.

    Raises:
        ValueError: the config is impossible; says which fields, and what to do.
    """
    layout = layouts.make_layout(config.layout, config.sum_dtype, devices)
    device = layout.mesh.devices.flat[0]
    module = make_model(config, num_classes, device)
    rows = config.batch_size // layout.mesh.size
    accum_steps = config.accum_steps or best_parts(module, rows, device.platform)
    layout.check_batch_size(config.batch_size, accum_steps)
    per_epoch = num_examples / config.batch_size
    total = optimizer.steps(config, "total", per_epoch)
    warmup = optimizer.steps(config, "warmup", per_epoch, optional=True)
    schedule = optimizer.make_schedule(config.lr, config.decay, total, warmup, config.decay_end)
    tx = optimizer.make_optimizer(config, schedule)
    if (sam := make_sam(config, schedule)) is not None:
        sam.split(config.batch_size // layout.mesh.size, layout.mesh.size)  # raises if impossible
    drop_steps = optimizer.steps(config, "drop", per_epoch, optional=True)
    drop_schedule = optimizer.make_drop_schedule(config.drop_schedule, drop_steps)
    if drop_schedule:
        _check_drop_schedule(config, drop_steps, total)
    step = make_train_step(
        module,
        tx,
        loss=config.loss,
        label_smoothing=config.label_smoothing,
        mixup=Mixup(
            config.mixup, config.mixup_per_example, config.cutmix, config.cutmix_probability
        ),
        grad_clip=config.grad_clip,
        sam=sam,
        drop_schedule=drop_schedule,
        teacher=teacher.prepare(config, teacher_module, num_classes, device),
        accum_steps=accum_steps,
        last_apart=layout.overlaps_sums,
        seed=config.seed,
    )
    return Recipe(
        module, layout, step, tx, schedule, total,
        eval_every=optimizer.steps(config, "eval_every", per_epoch),
        checkpoint_every=optimizer.steps(config, "checkpoint_every", per_epoch),
    )  # fmt: skip


def _check_drop_schedule(config: Config, steps: int, total_steps: int) -> None:
    name = f"drop_schedule={config.drop_schedule}"
    if config.architecture != "mixer":
        raise ValueError(
            f"{name} is for the Mixer only, not for architecture={config.architecture}"
        )
    if not (config.model.get("stoch_depth") or config.model.get("dropout_rate")):
        raise ValueError(
            f"{name} has nothing to schedule: set model.stoch_depth or model.dropout_rate, or "
            "drop_schedule=constant"
        )
    if config.drop_schedule == "late" and steps >= total_steps:
        raise ValueError(
            f"{name} begins after {steps} steps, and the run has only {total_steps}: use a shorter "
            "drop_epochs or drop_steps"
        )


def make_model(config: Config, num_classes: int, device: jax.Device | None = None) -> Any:
    """Makes the model of a config, including the permutation of its input if there is one.

    A Mixer is first made at the sizes `init_image_size` and `init_patch_size`, at which the weights
    of init_from were trained, and then resized to the config's own by `init_resize`; see
    `weights.resize`. These are fields of the config because the widths of the model depend on them.

    Args:
        config: see configs/common.py.
        num_classes: number of outputs.
        device: a device to compute on, which decides dtype="auto"; by default JAX's first.

    Raises:
        ValueError: the config's fields do not fit each other.
    """
    if config.architecture not in ARCHITECTURES:
        raise ValueError(
            f"unknown architecture {config.architecture!r}; use one of {', '.join(ARCHITECTURES)}"
        )
    architecture = ARCHITECTURES[config.architecture]
    module = architecture.create(
        num_classes=num_classes,
        image_size=config.image_size,
        image_channels=config.image_channels,
        head_bias=config.init_head_bias or losses.head_bias(config.loss, num_classes),
        dtype=compute_dtype(config.dtype, has_fast_bfloat16(device or jax.local_devices()[0])),
        **config.model,
    )
    if architecture.can_remat:
        module = module.clone(remat=config.remat)
    elif config.remat:
        raise ValueError(f"remat is for the Mixer only, not for architecture={config.architecture}")
    if config.permuted.order != "original":
        module = Permuted(module, **config.permuted)
        module.pixel_order()  # raises if the permutation is impossible
        return module
    if not architecture.can_resize:
        return module
    init = module.clone(
        image_size=as_pair(config.init_image_size or module.image_size),
        patch_size=as_pair(config.init_patch_size or module.patch_size),
    )
    return resize_module(init, module.image_size, module.patch_size, config.init_resize)


def random_params(config: Config, module: Any, shardings: Any = None) -> dict[str, Any]:
    """Makes random parameters from the config's seed, placed as `shardings` says."""
    return init(module, config.seed, shardings)
