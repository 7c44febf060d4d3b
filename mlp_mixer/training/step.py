"""The training step, a pure function (state, batch) -> (state, metrics)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mlp_mixer.training import losses


class TrainState(NamedTuple):
    """All that training changes; a checkpoint holds exactly this."""

    step: jax.Array  # int32 scalar: the number of updates already applied
    params: Any  # nested dict with the published names
    opt_state: Any


def normalise(images: jax.Array) -> jax.Array:
    """Pixels uint8 to float32 in [-1, 1], as the published weights expect them."""
    return images.astype(jnp.float32) / 127.5 - 1


def make_train_step(
    model: Any,
    optimizer: optax.GradientTransformation,
    *,
    loss: str,
    label_smoothing: float = 0.0,
    accum_steps: int = 1,
    seed: int = 0,
) -> Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, dict[str, jax.Array]]]:
    """Makes the step for a model, a loss and an optimizer.

    What is random in the model depends on (seed, step, row of the example in the global batch)
    only, so neither the number of devices nor accum_steps changes the result, up to the order in
    which floats are summed.

    Args:
        model: a Flax module; see `models.mixer.MlpMixer`.
        optimizer: turns the mean gradient into updates.
        loss: name in `losses.LOSSES`.
        label_smoothing: see `losses.targets`.
        accum_steps: parts the batch is worked on one after the other, to save memory.
        seed: of dropout and stochastic depth.
    """
    loss_fn = losses.get(loss)

    def mean_loss(params, batch, keys):
        def forward(image, key):  # one example, so that each has its own randomness
            rngs = {"dropout": key}
            return model.apply({"params": params}, image[None], train=True, rngs=rngs)[0]

        logits = jax.vmap(forward)(normalise(batch["image"]), keys)
        targets = losses.targets(batch["label"], model.num_classes, label_smoothing)
        correct = logits.argmax(-1) == targets.argmax(-1)
        return loss_fn(logits, targets).mean(), correct.mean()

    def train_step(state, batch):
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        rows = jnp.arange(len(batch["label"]))
        keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)
        value_and_grad = jax.value_and_grad(mean_loss, has_aux=True)
        if accum_steps == 1:
            (value, accuracy), grads = value_and_grad(state.params, batch, keys)
        else:
            # Part a is rows a, a + accum_steps, ...: every device works on its own rows of it.
            parts = jax.tree.map(
                lambda x: x.reshape(-1, accum_steps, *x.shape[1:]).swapaxes(0, 1), (batch, keys)
            )

            def add(total, part):
                return jax.tree.map(jnp.add, total, value_and_grad(state.params, *part)), None

            first = jax.eval_shape(
                value_and_grad, state.params, *jax.tree.map(lambda x: x[0], parts)
            )
            zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), first)
            total, _ = jax.lax.scan(add, zeros, parts)
            (value, accuracy), grads = jax.tree.map(lambda x: x / accum_steps, total)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": value, "accuracy": accuracy, "grad_norm": optax.tree.norm(grads)}
        return TrainState(state.step + 1, params, opt_state), metrics

    return train_step
