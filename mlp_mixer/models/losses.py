"""Classification losses, and how logits become probabilities under each of them.

A loss takes logits [n, k] and targets [n, k] and returns one number for each example, [n].
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import optax


def softmax(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Computes the cross-entropy with targets that sum to 1 for each example."""
    return optax.softmax_cross_entropy(logits, targets)


def sigmoid(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Computes the binary cross-entropy, summed over classes as in the authors' code."""
    return optax.sigmoid_binary_cross_entropy(logits, targets).sum(-1)


def distillation(logits: jax.Array, teacher_logits: jax.Array) -> jax.Array:
    """Computes KL(teacher || student) of the softmax of both logits, for each example.

    Its gradient by `logits` is softmax(logits) - softmax(teacher_logits).
    """
    return optax.losses.kl_divergence_with_log_targets(
        jax.nn.log_softmax(logits), jax.nn.log_softmax(teacher_logits)
    )


Loss = Literal["softmax", "sigmoid"]
LOSSES = {"softmax": softmax, "sigmoid": sigmoid}


def get(name: str):
    """Returns the loss function of a name in LOSSES.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in LOSSES:
        raise ValueError(f"unknown loss {name!r}; use one of {', '.join(LOSSES)}")
    return LOSSES[name]


def head_bias(name: str, num_classes: int) -> float:
    """Returns the initial bias of the head, which makes each class about as likely as it is.

    For sigmoid that is -ln(num_classes), so that the first steps are not spent on learning that
    most classes are absent: -6.9 for 1,000 and -10 for 21,843 classes, as in the authors' code.
    """
    return -math.log(num_classes) if name == "sigmoid" and num_classes else 0.0


def targets(labels: jax.Array, num_classes: int, smoothing: float = 0.0) -> jax.Array:
    """Converts labels to targets, float32 [n, k].

    Args:
        labels: class numbers int [n], or multi-hot [n, k], as they come in a batch.
        num_classes: k.
        smoothing: share of each target that is spread evenly over all classes.
    """
    one_hot = jax.nn.one_hot(labels, num_classes) if labels.ndim == 1 else labels
    return one_hot.astype(jnp.float32) * (1 - smoothing) + smoothing / num_classes


def is_correct(
    logits: jax.Array, targets: jax.Array, labels: jax.Array, smoothing: float = 0.0
) -> jax.Array:
    """Returns whether the largest logit is that of the largest target, bool [n].

    Of several labels, any will do, as in evaluations; without a label no answer is correct.

    Args:
        logits: [n, k].
        targets: [n, k], from `targets`; they may be mixed.
        labels: of which they were made.
        smoothing: as for `targets`.
    """
    if labels.ndim == 1:
        return logits.argmax(-1) == targets.argmax(-1)
    answered = jnp.take_along_axis(targets, logits.argmax(-1)[:, None], 1)[:, 0]
    return (answered == targets.max(-1)) & (answered > smoothing / targets.shape[-1])


def to_probabilities(logits: jax.Array, loss: str) -> jax.Array:
    """Converts logits [n, k] to probabilities [n, k] under the loss of the model's training."""
    return jax.nn.sigmoid(logits) if loss == "sigmoid" else jax.nn.softmax(logits)
