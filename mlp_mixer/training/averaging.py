"""An exponential moving average of the parameters, which often is better than the last ones.

It is part of the optimizer's state, and so it is saved, restored and split over devices with it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class AverageState(NamedTuple):
    """What `moving_average` keeps."""

    done: jax.Array  # int32 scalar: the number of updates so far
    average: Any  # like the parameters


def moving_average(decay: float) -> optax.GradientTransformation:
    """Averages the parameters that the updates lead to; to be the last part of an optimizer.

    After update t (1, 2, ...) the average moves by 1 - d of its distance to the parameters, where d
    is the smaller of `decay` and t / (t + 9): early on it must follow fast, or it would keep the
    random parameters of the start (timm's and TensorFlow's warm-up).
    """

    def init(params: Any) -> AverageState:
        # Copies, because a step gives its input arrays away, each only once.
        return AverageState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.copy, params))

    def update(updates: Any, state: AverageState, params: Any = None) -> tuple[Any, AverageState]:
        done = state.done + 1
        now = jnp.float32(done)
        share = 1 - jnp.minimum(jnp.float32(decay), now / (now + 9))
        new = optax.apply_updates(params, updates)
        average = jax.tree.map(lambda a, p: a + share * (p - a), state.average, new)
        return updates, AverageState(done, average)

    return optax.GradientTransformation(init, update)


def averaged(opt_state: Any) -> Any | None:
    """Returns the averaged parameters in an optimizer's state; None if it keeps none."""
    return next((part.average for part in opt_state if isinstance(part, AverageState)), None)
