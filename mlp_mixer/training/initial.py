"""The initial parameters of a run: random, or the weights of its init_from."""

import logging
from collections.abc import Sequence
from typing import Any

from mlp_mixer.models import mixer
from mlp_mixer.models.class_names import match
from mlp_mixer.models.init import shapes
from mlp_mixer.models.permuted import Permuted
from mlp_mixer.training import fields
from mlp_mixer.training.recipe import Config, random_params
from mlp_mixer.weights import naming, of_runs
from mlp_mixer.weights.files import open_weights
from mlp_mixer.weights.load import read, recognise

log = logging.getLogger(__name__)


def with_trained_sizes(config: Config, before: dict[str, Any] | None = None) -> Config:
    """Returns a Mixer's config with the sizes that its weights of init_from were trained at.

    The widths of the model depend on these sizes, init_image_size and init_patch_size; see
    `recipe.make_model`. Their values in the config are for programs without weights, such as a
    plan. If tiling has made the token-mixing MLPs of the weights a multiple as wide as the
    config's, their width is taken as well.

    Args:
        config: the config of a run, which starts from weights or not.
        before: the config that a continued run began with, as its weights may be gone.
    """
    if not config.init_from or config.architecture != "mixer":
        return config
    if before:
        before = fields.completed(before)
        sizes = {name: before[name] for name in fields.OF_THE_WEIGHTS if name in before}
    else:
        with open_weights(config.init_from) as opened:
            hint = config.init_image_size or config.image_size
            trained = recognise(opened, otherwise=tuple(hint)).module
        if not isinstance(trained, mixer.MlpMixer):
            return config  # `parameters` raises the error
        sizes = {"init_image_size": trained.image_size, "init_patch_size": trained.patch_size}
        width = mixer.create(image_size=config.image_size, **config.model).tokens_mlp_dim
        if trained.tokens_mlp_dim != width and trained.tokens_mlp_dim % width == 0:
            sizes["model.tokens_mlp_dim"] = trained.tokens_mlp_dim
            log.info("model.tokens_mlp_dim=%d, as %s has it", trained.tokens_mlp_dim,
                     config.init_from)  # fmt: skip
    config = config.copy_and_resolve_references().unlock()
    config.update_from_flattened_dict(sizes)
    return config.lock()


def parameters(
    config: Config, module: Any, class_names: Sequence[str], shardings: Any = None
) -> dict[str, Any]:
    """Makes random parameters, or reads those of `init_from`, with their head or a new one.

    With init_head "auto", the head is kept if it is known to be for the same classes. The outputs
    of a kept head are put in the order of the data's classes.

    Args:
        config: the config of a run.
        module: its model.
        class_names: the classes of its data.
        shardings: where to place random parameters.

    Raises:
        ValueError: the weights belong to another model, or a head that must be kept is for other
            classes; names the differences.
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
        with open_weights(config.init_from) as opened:
            if unusual := of_runs.kind(opened.config):
                raise ValueError(
                    f"init_from={config.init_from} is {unusual}; the config's model (architecture, "
                    "permuted) is a Mixer that sees pixels in their order"
                )
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
    """Raises a ValueError unless the weights fit the config's model, except for the head."""
    where = f"init_from={config.init_from}"
    inner = [getattr(x, "model", x) for x in (loaded, module)]
    orders = [x.pixel_order().tolist() if isinstance(x, Permuted) else [] for x in (loaded, module)]
    if type(inner[0]) is not type(inner[1]) or orders[0] != orders[1]:
        raise ValueError(
            f"{where} is a {type(inner[0]).__name__}, the config's model (architecture, permuted) "
            f"a {type(inner[1]).__name__}, and both must see the pixels in the same order"
        )
    have, want = (shapes(x.clone(num_classes=0)) for x in (loaded, module))
    if differences := naming.differences(have, want):
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
