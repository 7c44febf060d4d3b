"""The training step: gradients of a device's rows of a batch, and the update from their sum.

`Step.local` and `Step.update` are pure functions; `training.layouts` puts the sum over devices
between them, and compiles all of it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mlp_mixer.models import losses
from mlp_mixer.models.pixels import normalise
from mlp_mixer.runs.checkpoints import TrainState
from mlp_mixer.training.mixup import Mixup
from mlp_mixer.training.optimizer import Schedule, mean_gradient
from mlp_mixer.training.sam import Sam, split, summed_over_parts

Axis = str | tuple[str, ...]


class Step(NamedTuple):
    """The two parts of a training step.

    Attributes:
        local: (params, rows of a batch, step, axis, *teacher) -> (sums, gradients), called on every
            device of the named axis. Sums are over its rows; gradients are of the sum of their
            losses. Summed over devices, both are those of the whole batch. The last argument is the
            teacher's parameters, where there is a teacher.
        update: (state, sums, gradients) of the whole batch -> (state, metrics).
    """

    local: Callable[..., tuple[Any, Any]]
    update: Callable[[TrainState, Any, Any], tuple[TrainState, dict[str, jax.Array]]]


def make_train_step(
    model: Any,
    optimizer: optax.GradientTransformation,
    *,
    loss: str,
    label_smoothing: float = 0.0,
    mixup: Mixup = Mixup(),  # noqa: B008 - frozen
    grad_clip: float = 0.0,
    sam: Sam | None = None,
    drop_schedule: Schedule | None = None,
    teacher: Any = None,
    accum_steps: int = 1,
    last_apart: bool = False,
    seed: int = 0,
) -> Step:
    """Makes the step for a model, a loss and an optimizer.

    Randomness depends only on (seed, step, row of the example in the global batch), so the number
    of devices, the layout and accum_steps do not change the result, except for the order in which
    floats are summed.

    Args:
        model: a Flax module; see `models.mixer.MlpMixer`.
        optimizer: turns the mean gradient into updates.
        loss: a key of `losses.LOSSES`.
        label_smoothing: see `losses.targets`.
        mixup: how examples are mixed in pairs.
        grad_clip: largest global norm of the gradient; 0 for no clipping.
        sam: how weights are perturbed before the gradient is taken; None for plain training.
        drop_schedule: maps a step to a factor of the rates of dropout and stochastic depth; None
            for 1, also for models that take no factor.
        teacher: a Flax module with the same inputs and outputs, whose answers are learnt in place
            of labels; `loss` and `label_smoothing` then play no part. See `training.teacher`.
        accum_steps: number of parts in which a device processes its rows, one after the other.
            Saves memory, and also time on a TPU if the activations of a part fit in on-chip memory.
            With `sam` a part has at most as many rows as without.
        last_apart: whether the last part's gradients are computed after the loop over parts, so
            that their sum over devices can begin before the backward pass ends. Not with `sam`,
            whose loops are nested.
        seed: seeds mixup, dropout and stochastic depth.
    """
    loss_fn = losses.get(loss)

    def images_of(rows):
        images = normalise(rows["image"])
        if not mixup.is_on:
            return images
        return mixup.mix_images(images, normalise(rows["partner_image"]), rows)

    # The sum, not the mean: `update` divides once, by the number of examples in the whole batch.
    def total_loss(params, rows, step_key, drop):
        targets = losses.targets(rows["label"], model.num_classes, label_smoothing)
        if mixup.is_on:
            partners = losses.targets(rows["partner_label"], model.num_classes, label_smoothing)
            targets = mixup.mix(targets, partners, rows["share"])
        logits = model.apply(
            {"params": params},
            images_of(rows),
            train=True,
            rows=rows["row"],
            rngs={"dropout": step_key},
            **drop,
        )
        correct = losses.is_correct(logits, targets, rows["label"], label_smoothing)
        if teacher is None:
            values = loss_fn(logits, targets)
        else:
            values = losses.distillation(logits, rows["teacher_logits"])
        sums = {"loss": values.sum(), "accuracy": correct.sum(), "examples": len(values)}
        return values.sum(), jax.tree.map(jnp.float32, sums)

    def answers(rows, parts, teacher_params):
        """Returns the teacher's logits [n, k] for rows, computed part by part."""

        def of_part(rows):
            return teacher.apply({"params": teacher_params}, images_of(rows))

        logits = jax.lax.map(of_part, split(rows, parts))  # [parts, n / parts, k]
        return logits.reshape(-1, logits.shape[-1])

    def local(params, batch, step, axis, *teacher_params):
        rows = dict(batch)
        count = len(batch["label"])
        step_key = jax.random.fold_in(jax.random.key(seed), step)
        numbers = jnp.arange(count, dtype=jnp.int32)
        rows["row"] = jax.lax.axis_index(axis) * count + numbers  # index in the global batch
        if mixup.is_on:
            rows |= mixup.partners(rows, step_key, axis)
        if teacher is not None:  # outside of the gradients, and once for both of SAM's passes
            rows["teacher_logits"] = answers(rows, _parts(rows, count), *teacher_params)
        drop = {"drop_scale": drop_schedule(step)} if drop_schedule else {}
        gradients = partial(jax.grad(total_loss, has_aux=True), step_key=step_key, drop=drop)

        def one_pass(params, rows):
            of_part, parts = partial(gradients, params), _parts(rows, count)
            return summed_over_parts(of_part, rows, parts, last_apart and sam is None)

        if sam is None:
            grads, sums = one_pass(params, rows)
        else:
            grads, sums = sam.gradients(one_pass, params, rows, step, axis)
        return sums, grads

    def _parts(rows, count):
        """Returns the fewest equal parts that have at most count / accum_steps rows each."""
        given = len(rows["row"])
        return next(
            parts
            for parts in range(1, given + 1)
            if given % parts == 0 and given * accum_steps <= count * parts
        )

    def update(state, sums, grads):
        examples = sums.pop("examples")
        metrics = {name: total / examples for name, total in sums.items()}
        grads, metrics["grad_norm"] = mean_gradient(grads, examples, grad_clip)
        if sam is not None:
            metrics["rho"] = sam.rho(state.step)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, opt_state), metrics

    return Step(local, update)
