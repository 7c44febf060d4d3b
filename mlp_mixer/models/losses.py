"""Classification losses, and the probabilities that logits mean under each of them.

A loss takes logits [n, k] and targets [n, k] and gives one number for each example, [n].
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import optax


def softmax(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Cross-entropy with targets that sum to 1 for each example."""
    return optax.softmax_cross_entropy(logits, targets)


def sigmoid(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Binary cross-entropy, summed over classes as in the authors' code (not averaged)."""
    return optax.sigmoid_binary_cross_entropy(logits, targets).sum(-1)


Loss = Literal["softmax", "sigmoid"]
LOSSES = {"softmax": softmax, "sigmoid": sigmoid}


def get(name: str):
    """The loss of this name.

    Raises:
        ValueError: there is none.
    """
    if name not in LOSSES:
        raise ValueError(f"unknown loss {name!r}; use one of {', '.join(LOSSES)}")
    return LOSSES[name]


def head_bias(name: str, num_classes: int) -> float:
    """Where the bias of the head starts: each class about as likely as it is.

    For sigmoid that is -ln(classes), so that the first steps do not go into learning that most
    classes are absent: -6.9 for 1,000 and -10 for 21,843 classes, the values of the authors' code.
    """
    return -math.log(num_classes) if name == "sigmoid" and num_classes else 0.0


def targets(labels: jax.Array, num_classes: int, smoothing: float = 0.0) -> jax.Array:
    """Class numbers int [n], or multi-hot [n, k], as float targets [n, k].

    Args:
        labels: as they come in a batch.
        num_classes: k.
        smoothing: share of each target that is spread evenly over all classes.
    """
    one_hot = jax.nn.one_hot(labels, num_classes) if labels.ndim == 1 else labels
    return one_hot.astype(jnp.float32) * (1 - smoothing) + smoothing / num_classes


def to_probabilities(logits: jax.Array, loss: str) -> jax.Array:
    """Turns logits [n, k] into probabilities [n, k], as the loss of their training means them."""
    return jax.nn.sigmoid(logits) if loss == "sigmoid" else jax.nn.softmax(logits)
