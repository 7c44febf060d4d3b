"""From a config to the parts of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import ml_collections
import optax

from mlp_mixer.data import sources
from mlp_mixer.data.augment import Augment
from mlp_mixer.models import losses
from mlp_mixer.models.architectures import ARCHITECTURES
from mlp_mixer.models.checks import as_pair
from mlp_mixer.models.dtypes import compute_dtype
from mlp_mixer.models.init import init
from mlp_mixer.models.permuted import Permuted
from mlp_mixer.runs.checkpoints import TrainState
from mlp_mixer.training import layouts, optimizer
from mlp_mixer.training.mixup import Mixup
from mlp_mixer.training.step import Step, make_train_step
from mlp_mixer.weights.resize import resize_module

Config: TypeAlias = ml_collections.ConfigDict

# A part of an accumulated batch has at most as many numbers as the tokens of 32 images have in
# B/16: what fits the on-chip memory of a TPU v5e, where it makes a step faster (docs/tpu_plans.md).
PART_ACTIVATIONS = 32 * 196 * 768


def open_data(config: Config) -> sources.Source:
    """The source to train on."""
    data = config.data
    train = sources.open_source(data.source, data.train_split, config.image_channels)
    if data.examples_per_class:
        train = sources.take_per_class(train, data.examples_per_class, config.seed)
    return train


def make_augment(config: Config) -> Augment:
    """What happens to training images."""
    return Augment(tuple(config.image_size), **config.augment)


@dataclass(frozen=True)
class Recipe:
    """All of a run that does not depend on where its data lies.

    Attributes:
        module: the model.
        layout: how the step lies over devices.
        step: the training step.
        optimizer: with its schedule.
        schedule: step -> learning rate.
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
        """The state before the first step; works on shapes under jax.eval_shape, too."""
        return TrainState(jnp.zeros((), jnp.int32), params, self.optimizer.init(params))

    def state_shapes(self) -> TrainState:
        """The shapes and number types of a state, as jax.ShapeDtypeStructs."""
        return jax.eval_shape(lambda: self.new_state(init(self.module)))


def make_recipe(
    config: Config,
    num_classes: int,
    num_examples: int,
    devices: Sequence[jax.Device] | None = None,
) -> Recipe:
    """Makes what a config describes.

    Args:
        config: see configs/common.py.
        num_classes: of the data set.
        num_examples: of the data set, to train on.
        devices: to run on; all of them where not given.

    Raises:
        ValueError: the config is not possible; says which fields, and what to do.
    """
    layout = layouts.make_layout(config.layout, config.sum_dtype, devices)
    platform = layout.mesh.devices.flat[0].platform
    module = make_model(config, num_classes, platform)
    accum_steps = config.accum_steps or _auto_accum_steps(config, module, layout, platform)
    layout.check_batch_size(config.batch_size, accum_steps)
    per_epoch = num_examples / config.batch_size
    total = optimizer.steps(config, "total", per_epoch)
    warmup = optimizer.steps(config, "warmup", per_epoch, optional=True)
    schedule = optimizer.make_schedule(config.lr, config.decay, total, warmup, config.decay_end)
    tx = optimizer.make_optimizer(config, schedule)
    step = make_train_step(
        module,
        tx,
        loss=config.loss,
        label_smoothing=config.label_smoothing,
        mixup=Mixup(config.mixup, config.mixup_per_example),
        grad_clip=config.grad_clip,
        accum_steps=accum_steps,
        seed=config.seed,
    )
    return Recipe(
        module, layout, step, tx, schedule, total,
        eval_every=optimizer.steps(config, "eval_every", per_epoch),
        checkpoint_every=optimizer.steps(config, "checkpoint_every", per_epoch),
    )  # fmt: skip


def _auto_accum_steps(
    config: Config, module: Any, layout: layouts.Replicated, platform: str
) -> int:
    """The fewest parts of a Mixer that are small enough for a TPU's on-chip memory; else 1."""
    rows = config.batch_size // layout.mesh.size
    numbers = getattr(module, "numbers_in_tokens", 0)  # of other models it is not known
    if platform != "tpu" or not rows or not numbers:
        return 1
    most = max(1, PART_ACTIVATIONS // numbers)
    return next(parts for parts in range(1, rows + 1) if rows % parts == 0 and rows <= most * parts)


def make_model(config: Config, num_classes: int, platform: str | None = None) -> Any:
    """The model: config.architecture, behind the permutation config.permuted if there is one.

    A Mixer is made at the size that it is trained at. `init_image_size` and `init_patch_size` are
    the sizes that the weights of init_from were trained at, `init_resize` is the way from there to
    the config's own; see `weights.resize`. They are fields of the config because the widths of
    the model depend on them.
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
        head_bias=losses.head_bias(config.loss, num_classes),
        dtype=compute_dtype(config.dtype, platform or jax.default_backend()),
        **config.model,
    )
    if architecture.can_remat:
        module = module.clone(remat=config.remat)
    elif config.remat:
        raise ValueError(f"remat is for the Mixer only, not for architecture={config.architecture}")
    if config.permuted.order != "original":
        module = Permuted(module, **config.permuted)
        module.pixel_order()  # raises where it is not possible
        return module
    if not architecture.can_resize:
        return module
    init = module.clone(
        image_size=as_pair(config.init_image_size or module.image_size),
        patch_size=as_pair(config.init_patch_size or module.patch_size),
    )
    return resize_module(init, module.image_size, module.patch_size, config.init_resize)


def random_params(config: Config, module: Any, shardings: Any = None) -> dict[str, Any]:
    """Fresh parameters for the config's seed, made where `shardings` says."""
    return init(module, config.seed, shardings)
