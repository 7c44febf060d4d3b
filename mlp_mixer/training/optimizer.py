"""Durations, learning-rate schedules and optimizers, from the config."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax
from optax import contrib

from mlp_mixer.training.averaging import moving_average

Schedule = Callable[[Any], jax.Array]

# In the names of parameters of the Mixer and of ViT.
BLOCK = r"(?:MixerBlock_|encoderblock_)(\d+)/"
HEAD = r"(?:^|/)(?:head|pre_logits|pre_head_layer_norm|encoder_norm)/"

# Kernels of a ViT whose outputs are two axes, heads and their width; all others have one.
INTO_HEADS = r"/(?:query|key|value)/kernel$"

# Factor of the rate, by progress from the end of the warm-up (0) to the end of the run (1).
DECAYS: dict[str, Schedule] = {
    "linear": lambda progress: 1 - progress,
    "cosine": lambda progress: 0.5 * (1 + jnp.cos(jnp.pi * progress)),
}


def steps(
    config: ml_collections.ConfigDict, name: str, steps_per_epoch: float, optional: bool = False
) -> int:
    """Returns a duration in steps that the config gives as `NAME_steps` or `NAME_epochs`.

    Args:
        config: has both fields, of which one is 0.
        name: their prefix, such as "total".
        steps_per_epoch: number of examples / batch size, not rounded.
        optional: whether both may be 0.

    Raises:
        ValueError: both are set, neither is, or one is negative.
    """
    in_steps, in_epochs = config[f"{name}_steps"], config[f"{name}_epochs"]
    found = f"the config has {name}_steps={in_steps} and {name}_epochs={in_epochs}"
    if min(in_steps, in_epochs) < 0:
        raise ValueError(f"a duration must not be negative; {found}")
    if (in_steps and in_epochs) or not (in_steps or in_epochs or optional):
        raise ValueError(
            f"set exactly one of {name}_steps and {name}_epochs, the other to 0; {found}"
        )
    return in_steps or (max(1, round(in_epochs * steps_per_epoch)) if in_epochs else 0)


def make_schedule(
    lr: float, decay: str, total_steps: int, warmup_steps: int, decay_end: float = 0.0
) -> Schedule:
    """Makes a schedule: linear warm-up from 0 to `lr`, then decay to `lr * decay_end`.

    Args:
        lr: the peak rate, reached at the end of the warm-up.
        decay: "linear" or "cosine", from the end of the warm-up to total_steps.
        total_steps: updates in the whole run.
        warmup_steps: updates until the peak; 0 for no warm-up.
        decay_end: share of the peak rate that is left at the end.

    Returns:
        A function from the step to the learning rate, float32.

    Raises:
        ValueError: the decay is unknown, or the warm-up does not end before the run.
    """
    if decay not in DECAYS:
        raise ValueError(f"unknown decay {decay!r}; use one of {', '.join(DECAYS)}")
    if warmup_steps >= total_steps:
        raise ValueError(
            f"the warm-up of {warmup_steps} steps (warmup_steps or warmup_epochs) does not end in "
            f"the run of {total_steps} (total_steps or total_epochs): shorten the one or lengthen "
            "the other"
        )

    def schedule(step: Any) -> jax.Array:
        # float32 like the parameters; quotients of integers would depend on jax_enable_x64.
        progress = jnp.float32(step - warmup_steps) / (total_steps - warmup_steps)
        warmup = jnp.minimum(1.0, jnp.float32(step) / warmup_steps) if warmup_steps else 1.0
        left = DECAYS[decay](jnp.clip(progress, 0.0, 1.0))
        return lr * warmup * (decay_end + (1 - decay_end) * left)

    return schedule


def make_drop_schedule(name: str, steps: int) -> Schedule | None:
    """Makes a schedule of dropout and stochastic depth (arXiv 2303.01500).

    Args:
        name: "constant"; "early", from the rates down to 0 in so many steps, and 0 from then on;
            or "late", 0 for so many steps, and the rates from then on.
        steps: 0 with "constant", else more.

    Returns:
        A function from the step to a factor of the rates, float32; None if it is always 1.

    Raises:
        ValueError: name and steps do not fit each other.
    """
    if name == "constant" and steps:
        raise ValueError(
            f"drop_schedule=constant takes no duration, but drop_epochs or drop_steps make {steps} "
            "steps: set both to 0, or choose early or late"
        )
    if name != "constant" and not steps:
        raise ValueError(
            f"drop_schedule={name} needs a duration, but the config has 0 steps: set drop_epochs "
            "or drop_steps"
        )
    if name == "early":
        return lambda step: jnp.maximum(0.0, 1 - jnp.float32(step) / steps)
    if name == "late":
        return lambda step: jnp.float32(step >= steps)
    return None


def scale_by_muon_and_adam() -> optax.GradientTransformation:
    """Scales updates of the blocks' kernels by Muon, all others by Adam with Nesterov momentum.

    Muon (kellerjordan.github.io/posts/muon) makes the momentum of a matrix orthogonal. Its updates
    are then given the size of Adam's, as in arXiv 2502.16982, so that Adam's rates and decays serve
    for both.
    """
    # The rate and its sign come later, as for all optimizers.
    muon = contrib.muon(1.0, consistent_rms=0.2, muon_weight_dimension_numbers=_matrices)
    return optax.chain(muon, optax.scale(-1.0))


def _matrices(params: Any) -> Any:
    """Returns which axes of each kernel in a block are its inputs and outputs; None for the rest.

    Raises:
        ValueError: the model has no blocks.
    """

    def matrix(path: Any, x: Any) -> contrib.MuonDimensionNumbers | None:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if not re.search(BLOCK, name) or not name.endswith("/kernel"):
            return None
        inputs = 1 if re.search(INTO_HEADS, name) else x.ndim - 1
        axes = tuple(range(x.ndim))
        return contrib.MuonDimensionNumbers(axes[:inputs], axes[inputs:])

    found = jax.tree_util.tree_map_with_path(matrix, params)
    if not jax.tree.leaves(found):
        raise ValueError(
            "optimizer=muon is for models of numbered blocks (mixer, vit), and this one has none; "
            "use adam"
        )
    return found


OPTIMIZERS = {
    "adam": lambda: optax.scale_by_adam(b1=0.9, b2=0.999),
    "momentum": lambda: optax.trace(decay=0.9),
    "lion": lambda: optax.scale_by_lion(b1=0.9, b2=0.99),  # arXiv 2302.06675
    "lamb": lambda: optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-6),  # arXiv 1904.00962
    "muon": scale_by_muon_and_adam,
}


def make_optimizer(
    config: ml_collections.ConfigDict, schedule: Schedule
) -> optax.GradientTransformation:
    """Makes the optimizer for the result of `mean_gradient`.

    The weight decay is decoupled, as in AdamW: each step subtracts `rate * weight_decay * kernel`,
    from kernels only. (big_vision gives the product of peak rate and decay: its 1e-4 is 0.1 here at
    lr 1e-3.) The update of LAMB, decay included, has in each array the norm of the parameters times
    the rate.

    Raises:
        ValueError: the optimizer is unknown.
    """
    if config.optimizer not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {config.optimizer!r}; use {' or '.join(OPTIMIZERS)}")
    parts = [
        optax.identity(),  # keeps the tree of states saved when clipping was part of the chain
        OPTIMIZERS[config.optimizer](),
        optax.add_decayed_weights(config.weight_decay, mask=kernels),
        optax.scale_by_learning_rate(schedule),
    ]
    # Only where they are asked for: a saved state has the states of all parts.
    if config.optimizer == "lamb":
        parts.insert(3, optax.scale_by_trust_ratio())
    if config.layer_decay != 1:
        parts.append(scale_by_depth(config.layer_decay))
    if config.ema:
        parts.append(moving_average(config.ema))
    return optax.chain(*parts)


def scale_by_depth(decay: float) -> optax.GradientTransformation:
    """Multiplies updates by decay^k, where k is how many blocks lie between them and the head.

    As in BEiT (arXiv 2106.08254): k is 0 for the head and its LayerNorm, 1 for the last block, and
    the number of blocks + 1 for the stem and position embeddings.
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        names = [
            jax.tree_util.keystr(path, simple=True, separator="/")
            for path, _ in jax.tree_util.tree_leaves_with_path(updates)
        ]
        blocks = [re.search(BLOCK, name) for name in names]
        last = max((int(block[1]) for block in blocks if block), default=None)
        if last is None:
            raise ValueError(
                f"layer_decay={decay} is for models of numbered blocks (mixer, vit), and this one "
                f"has {names[0]} and the like; set it to 1"
            )
        from_head = [
            last + 1 - int(block[1]) if block else 0 if re.search(HEAD, name) else last + 2
            for name, block in zip(names, blocks, strict=True)
        ]
        leaves, tree = jax.tree.flatten(updates)
        scaled = [x * decay**k for x, k in zip(leaves, from_head, strict=True)]
        return jax.tree.unflatten(tree, scaled), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def mean_gradient(sums: Any, examples: jax.Array, clip: float = 0.0) -> tuple[Any, jax.Array]:
    """Computes the mean gradient, clipped by its global norm.

    Equals optax.clip_by_global_norm of the mean, but computes the norm once and multiplies each
    array once, which lowers and compiles the step of H/14 in a fifth less time.

    Args:
        sums: gradients summed over examples.
        examples: number of examples.
        clip: largest norm of the mean; 0 for no clipping.

    Returns:
        The clipped mean gradient, and its norm before clipping.
    """
    norm = jnp.sqrt(sum(jnp.square(x).sum() for x in jax.tree.leaves(sums)))
    factor = 1 / examples
    if clip:
        factor = jnp.minimum(factor, clip / norm)
    return jax.tree.map(lambda x: x * factor, sums), norm / examples


def kernels(params: Any) -> Any:
    """Returns the tree with True for kernels, False for biases and scales."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)
