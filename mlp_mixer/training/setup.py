"""From a config to the parts of a run."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

from mlp_mixer.data import sources
from mlp_mixer.data.augment import Augment
from mlp_mixer.data.class_names import match
from mlp_mixer.models import mixer
from mlp_mixer.models.architectures import ARCHITECTURES
from mlp_mixer.models.permuted import Permuted
from mlp_mixer.training import fields, losses, optimizer, parallel
from mlp_mixer.training.mixup import Mixup
from mlp_mixer.training.step import Step, TrainState, make_train_step
from mlp_mixer.weights import layouts, resolution
from mlp_mixer.weights.load import read, recognise, shapes
from mlp_mixer.weights.sources import open_source

log = logging.getLogger(__name__)

Config = ml_collections.ConfigDict

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


def with_trained_sizes(config: Config, before: dict[str, Any] | None = None) -> Config:
    """The config of a Mixer with those sizes of the weights of init_from that its widths depend on.

    They are init_image_size and init_patch_size, see `make_model`; what the config itself says of
    them is for programs that have no weights, such as a plan. And where the token-mixing MLPs of
    the weights are some times as wide as the config's, as tiling has made them, that width.

    Args:
        config: of a run that starts from weights, or not.
        before: of a run that goes on, its config: the weights may be gone.
    """
    if not config.init_from or config.architecture != "mixer":
        return config
    if before:
        before = fields.completed(before)
        sizes = {name: before[name] for name in fields.OF_THE_WEIGHTS if name in before}
    else:
        with open_source(config.init_from) as opened:
            hint = config.init_image_size or config.image_size
            trained = recognise(opened, otherwise=tuple(hint)).module
        if not isinstance(trained, mixer.MlpMixer):
            return config  # is refused later
        sizes = {"init_image_size": trained.image_size, "init_patch_size": trained.patch_size}
        width = mixer.create(image_size=config.image_size, **config.model).tokens_mlp_dim
        if trained.tokens_mlp_dim != width and trained.tokens_mlp_dim % width == 0:
            sizes["model.tokens_mlp_dim"] = trained.tokens_mlp_dim
            log.info("model.tokens_mlp_dim=%d, as %s has it", trained.tokens_mlp_dim,
                     config.init_from)  # fmt: skip
    config = config.copy_and_resolve_references().unlock()
    config.update_from_flattened_dict(sizes)
    return config.lock()


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
    layout: parallel.Replicated
    step: Step
    optimizer: optax.GradientTransformation
    schedule: optimizer.Schedule
    total_steps: int
    eval_every: int
    checkpoint_every: int

    def new_state(self, params: Any) -> TrainState:
        """The state before the first step; works on shapes under jax.eval_shape, too."""
        return TrainState(jnp.zeros((), jnp.int32), params, self.optimizer.init(params))


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
    layout = parallel.make_layout(config.layout, config.sum_dtype, devices)
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
    config: Config, module: Any, layout: parallel.Replicated, platform: str
) -> int:
    """The fewest parts of a Mixer that are small enough for a TPU's on-chip memory; else 1."""
    rows = config.batch_size // layout.mesh.size
    if platform != "tpu" or not rows or not isinstance(module, mixer.MlpMixer):
        return 1
    tokens = module.grid[0] * module.grid[1]
    most = max(1, PART_ACTIVATIONS // (tokens * module.hidden_dim))
    return next(parts for parts in range(1, rows + 1) if rows % parts == 0 and rows <= most * parts)


def make_model(config: Config, num_classes: int, platform: str | None = None) -> Any:
    """The model: config.architecture, behind the permutation config.permuted if there is one.

    A Mixer is made at the size that it is trained at. `init_image_size` and `init_patch_size` are
    the sizes that the weights of init_from were trained at, `init_resize` is the way from there to
    the config's own; see `weights.resolution`. They are fields of the config because the widths of
    the model depend on them.
    """
    if config.architecture not in ARCHITECTURES:
        raise ValueError(
            f"unknown architecture {config.architecture!r}; use one of {', '.join(ARCHITECTURES)}"
        )
    module = ARCHITECTURES[config.architecture].create(
        num_classes=num_classes,
        image_size=config.image_size,
        image_channels=config.image_channels,
        head_bias=losses.head_bias(config.loss, num_classes),
        dtype=compute_dtype(config.dtype, platform or jax.default_backend()),
        **config.model,
    )
    if isinstance(module, mixer.MlpMixer):
        module = module.clone(remat=config.remat)
    elif config.remat:
        raise ValueError(f"remat is for the Mixer only, not for architecture={config.architecture}")
    if config.permuted.order != "original":
        module = Permuted(module, **config.permuted)
        module.pixel_order()  # raises where it is not possible
    if not isinstance(module, mixer.MlpMixer):
        return module
    init = module.clone(
        image_size=mixer.as_pair(config.init_image_size or module.image_size),
        patch_size=mixer.as_pair(config.init_patch_size or module.patch_size),
    )
    return resolution.resize_module(init, module.image_size, module.patch_size, config.init_resize)


def compute_dtype(name: str, platform: str) -> Any:
    """ "auto" is bfloat16 on TPU and GPU, and float32 on CPU, where bfloat16 gains nothing."""
    dtypes = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
    if name == "auto":
        name = "float32" if platform == "cpu" else "bfloat16"
    if name not in dtypes:
        raise ValueError(f"unknown dtype {name!r}; use auto, {' or '.join(dtypes)}")
    return dtypes[name]


def initial_params(
    config: Config, module: Any, class_names: Sequence[str], shardings: Any = None
) -> dict[str, Any]:
    """Random parameters, or those of `init_from`, with their head or with a new one.

    With init_head "auto" the head is kept where it is known to be for the same classes. A kept head
    has its outputs in the order of `class_names`, those of the data. Random parameters are made
    where `shardings` says.

    Raises:
        ValueError: the weights are of another model than the config's, or a head that must be kept
            is for other classes; names the differences.
    """
    params = random_params(config, module, shardings)
    if not config.init_from:
        unused = ", ".join(
            name for name, default in fields.ADDED.items()
            if name.startswith("init_") and config[name] != default
        )  # fmt: skip
        if unused:
            log.warning("init_from is not set, though %s: training starts from scratch", unused)
        log.info("parameters: random, from seed %d", config.seed)
        return params
    sizes = {}
    if isinstance(module, mixer.MlpMixer):
        sizes = dict(
            image_size=module.image_size, patch_size=module.patch_size, resize=config.init_resize
        )
    num_classes = 0 if config.init_head == "new" else None
    loaded_module, loaded, said = read(config.init_from, num_classes, **sizes)
    _check_same_model(config, loaded_module, module)
    head, why = loaded.pop("head", None), ""
    if config.init_head != "new":
        have = said.get("class_names", loaded_module.num_classes)
        try:
            if head is None:
                raise ValueError(f"{config.init_from} has no head that could be kept")
            if isinstance(have, int) and config.init_head == "auto":
                raise ValueError(f"{config.init_from} does not say what classes its head is for")
            order = match(have, class_names, config.init_from, config.data.source)
            loaded["head"] = {k: x if order is None else x[..., order] for k, x in head.items()}
        except ValueError as error:
            if config.init_head == "keep":
                raise
            why = f" ({error})"
    kept = "all, with the head," if "head" in loaded else f"all but the head, which is new{why},"
    log.info("parameters: %s from %s", kept, config.init_from)
    return params | loaded


def _check_same_model(config: Config, loaded: Any, module: Any) -> None:
    """Raises ValueError unless the weights of init_from are of the config's model, head apart."""
    where = f"init_from={config.init_from}"
    inner = [getattr(x, "model", x) for x in (loaded, module)]
    orders = [x.pixel_order().tolist() if isinstance(x, Permuted) else [] for x in (loaded, module)]
    if type(inner[0]) is not type(inner[1]) or orders[0] != orders[1]:
        raise ValueError(
            f"{where} is a {type(inner[0]).__name__}, the config's model (architecture, permuted) "
            f"a {type(inner[1]).__name__}, and both must see the pixels in the same order"
        )
    have, want = (shapes(x.clone(num_classes=0)) for x in (loaded, module))
    if differences := layouts.differences(have, want):
        size = "x".join(map(str, module.image_size))
        raise ValueError(
            f"{where} (for {size} pixels) does not fit the config's model and init_image_size:\n"
            + "\n".join(differences)
        )
    gelus = [getattr(x, "gelu", None) for x in inner]
    if gelus[0] != gelus[1]:
        raise ValueError(
            f"{where} was trained with the {gelus[0]} GELU, the config's model computes "
            f"{gelus[1]}; add --config.model.gelu={gelus[0]}"
        )


def random_params(config: Config, module: Any, shardings: Any = None) -> dict[str, Any]:
    """Fresh parameters for the config's seed, made where `shardings` says."""
    return mixer.init(module, config.seed, shardings)
