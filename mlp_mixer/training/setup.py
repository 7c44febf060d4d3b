"""From a config to the parts of a run."""

import logging
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from mlp_mixer.data import sources
from mlp_mixer.data.augment import Augment
from mlp_mixer.models import mixer
from mlp_mixer.training import losses
from mlp_mixer.weights import layouts, resolution
from mlp_mixer.weights.load import load

log = logging.getLogger(__name__)

Config = ml_collections.ConfigDict


def open_data(config: Config) -> tuple[sources.Source, sources.Source]:
    """The sources to train and to test on."""
    data = config.data
    train = sources.open_source(data.source, data.train_split, config.image_channels)
    test = sources.open_source(data.source, data.test_split, config.image_channels)
    if data.examples_per_class:
        train = sources.take_per_class(train, data.examples_per_class, config.seed)
    return train, test


def make_augment(config: Config) -> Augment:
    """What happens to training images.

    Raises:
        ValueError: the config names a change that there is not.
    """
    try:
        return Augment(tuple(config.image_size), **config.augment)
    except TypeError as error:
        known = ", ".join(name for name in Augment.__dataclass_fields__ if name != "size")
        raise ValueError(f"config.augment: {error}; it may have {known}") from error


def make_model(config: Config, num_classes: int) -> mixer.MlpMixer:
    """The model, at the size that it is trained at.

    `init_image_size` and `init_patch_size` are the sizes that the weights of init_from were trained
    at, `init_resize` is the way from there to the config's own; see `weights.resolution`. They are
    fields of the config because the widths of the model depend on them.
    """
    module = mixer.create(
        num_classes=num_classes,
        image_size=config.image_size,
        image_channels=config.image_channels,
        head_bias=losses.head_bias(config.loss, num_classes),
        dtype=compute_dtype(config.dtype),
        **config.model,
    )
    init = module.clone(
        image_size=mixer.as_pair(config.get("init_image_size") or module.image_size),
        patch_size=mixer.as_pair(config.get("init_patch_size") or module.patch_size),
    )
    return resolution.resize_module(
        init, module.image_size, module.patch_size, _init_resize(config)
    )


def compute_dtype(name: str) -> Any:
    """ "auto" is bfloat16 on TPU and GPU, and float32 on CPU, where bfloat16 gains nothing."""
    dtypes = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    if name not in dtypes:
        raise ValueError(f"unknown dtype {name!r}; use auto, {' or '.join(dtypes)}")
    return dtypes[name]


def initial_params(config: Config, module: mixer.MlpMixer) -> dict[str, Any]:
    """Random parameters, or those of `init_from`, with a new head unless `init_head` is "keep".

    Raises:
        ValueError: the weights are of another model than the config's; names the differences.
    """
    heads = {"new": 0, "keep": None}
    if (head := config.get("init_head", "new")) not in heads:
        raise ValueError(f"unknown init_head {head!r}; use {' or '.join(heads)}")
    params = random_params(config, module)
    init_from = config.get("init_from")
    if not init_from:
        return params
    loaded_module, loaded = load(
        init_from,
        num_classes=heads[head],
        image_size=module.image_size,
        patch_size=module.patch_size,
        resize=_init_resize(config),
    )
    body = module if head == "keep" else module.clone(num_classes=0)
    want, have = layouts.shapes(body), layouts.shapes(loaded_module)
    if differences := layouts.differences(have, want):
        raise ValueError(
            f"{init_from} (as a Mixer for {module.image_size[0]}x{module.image_size[1]} pixels) "
            "does not fit the config's model and init_image_size:\n" + "\n".join(differences)
        )
    if loaded_module.gelu != module.gelu:
        raise ValueError(
            f"{init_from} was trained with the {loaded_module.gelu} GELU, the config's model "
            f"computes {module.gelu}; add --config.model.gelu={loaded_module.gelu}"
        )
    log.info("initialised %s from %s", "all" if head == "keep" else "all but the head", init_from)
    return params | loaded


def _init_resize(config: Config) -> str:
    return config.get("init_resize", "auto")


def random_params(config: Config, module: mixer.MlpMixer) -> dict[str, Any]:
    """Fresh parameters for the config's seed."""
    return mixer.init(module, config.seed)
