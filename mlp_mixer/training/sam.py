"""SAM (arXiv 2010.01412) and GSAM (arXiv 2203.08065): the gradient is taken at perturbed weights.

For each group of images, with f their mean loss at weights w and g its gradient:

    w_adv = w + rho * g / (|g| + 1e-12)     the perturbed weights, with loss f_p and gradient g_p
    g_p - alpha * (g - (g . u) * u)         what the optimizer gets, with u = g_p / |g_p|

Norms and products run over all parameters. SAM has alpha = 0. f_p - f is the surrogate gap. rho
follows the learning rate: see `make_sam`.

In the authors' code a group is what lies on one device, so their result depends on the number of
devices. Here it is a range of `group_size` rows of the global batch, wherever they lie:

    a device holds whole groups   They are processed one after the other, so that perturbed weights
                                  exist once, not once for each group. No device waits for another.
    a group has several devices   They sum the group's gradients, of both passes, among themselves.

Gradients of sums are used throughout, as in `training.step`: with s = n g and s_p = n g_p for the n
images of a group, n times the combination above is (1 + alpha * (s . s_p) / |s_p|^2) s_p - alpha s,
which needs two scalars and no further tree of gradients.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from mlp_mixer.training.optimizer import Schedule

EPSILON = 1e-12  # the authors'; it is added to |g| only

# (params, rows) -> (gradients of the sum of the rows' losses, sums over the rows)
Pass = Callable[[Any, dict[str, jax.Array]], tuple[Any, dict[str, jax.Array]]]


@dataclass(frozen=True)
class Sam:
    """How weights are perturbed.

    Attributes:
        rho: maps a step to the length of the perturbation.
        alpha: how much of g, where it is orthogonal to g_p, is subtracted; 0 for SAM.
        group_size: number of images that share a perturbation.
    """

    rho: Schedule
    alpha: float = 0.0
    group_size: int = 64

    def split(self, rows: int, devices: int) -> tuple[int, int]:
        """Returns the number of groups on a device, and the number of devices that share a group.

        One of the two is 1.

        Args:
            rows: images on each device.
            devices: number of devices.

        Raises:
            ValueError: groups do not fit the batch or the devices.
        """
        if rows * devices % self.group_size:
            raise ValueError(
                f"sam.group_size={self.group_size} does not divide batch_size={rows * devices}"
            )
        if rows % self.group_size and self.group_size % rows:
            raise ValueError(
                f"sam.group_size={self.group_size} neither divides the {rows} images of each of "
                f"the {devices} devices nor is a multiple of them; use another number of devices "
                "or another batch_size (another group_size changes the result)"
            )
        return max(1, rows // self.group_size), max(1, self.group_size // rows)

    def gradients(
        self,
        one_pass: Pass,
        params: Any,
        rows: dict[str, jax.Array],
        step: jax.Array,
        axis: str | tuple[str, ...],
    ) -> tuple[Any, dict[str, jax.Array]]:
        """Computes what a device contributes to the gradient of a step.

        Args:
            one_pass: gradients and sums at some parameters. It is called with the same rows for
                both passes, so everything random in them is the same.
            params: the parameters.
            rows: this device's rows of the batch.
            step: number of updates so far.
            axis: name of the mapped axes of devices.

        Returns:
            The gradients, and the sums of the clean pass with those of `surrogate_gap` and of
            `clean_grad_norm`, which is |g|. Divided by the number of images, after summing over
            devices, they are means over groups.
        """
        count = len(rows["row"])
        groups, span = self.split(count, jax.lax.axis_size(axis))
        together = partial(_sum_of_neighbours, axis=axis, span=span)
        rho = self.rho(step)

        def of_group(rows: dict[str, jax.Array]) -> tuple[Any, dict[str, jax.Array]]:
            grads, sums = one_pass(params, rows)
            grads = together(grads)
            norm = jnp.sqrt(_dot(grads, grads))
            scale = rho / (norm + self.group_size * EPSILON)
            perturbed = jax.tree.map(lambda w, g: w + scale * g, params, grads)
            perturbed_grads, perturbed_sums = one_pass(perturbed, rows)
            sums["surrogate_gap"] = perturbed_sums["loss"] - sums["loss"]
            sums["clean_grad_norm"] = norm / span  # on each of `span` devices
            if self.alpha:
                perturbed_grads = together(perturbed_grads)
                # Where g_p is zero, nothing is along it: the authors' code gives NaN there.
                square = _dot(perturbed_grads, perturbed_grads)
                along = _dot(grads, perturbed_grads) / jnp.where(square, square, 1)
                perturbed_grads = jax.tree.map(
                    lambda g_p, g: ((1 + self.alpha * along) * g_p - self.alpha * g) / span,
                    perturbed_grads,
                    grads,
                )
            return perturbed_grads, sums

        return summed_over_parts(of_group, rows, groups)


def make_sam(config: ml_collections.ConfigDict, schedule: Schedule) -> Sam | None:
    """Makes what `config.sam` says, or None if it says to train plainly.

    rho is rho_max at the peak of the learning rate, rho_min where the rate has decayed to the last,
    and linear in the rate between them. It is linear beyond them, too: early in the warm-up, where
    the rate is below the last one, rho is below rho_min, and slightly negative if rho_min is 0.
    The authors' code does the same. If the rate does not decay, rho is rho_max.

    Args:
        config: see configs/common.py.
        schedule: the learning rate, not a factor of its peak.

    Raises:
        ValueError: fields of the config contradict each other.
    """
    sam = config.sam
    found = f"sam.rho_max={sam.rho_max}, sam.rho_min={sam.rho_min} and sam.alpha={sam.alpha}"
    if not sam.rho_max:
        if sam.rho_min or sam.alpha:
            raise ValueError(f"{found} perturb nothing: set sam.rho_max, or the others to 0")
        return None
    if sam.rho_min > sam.rho_max:
        raise ValueError(f"sam.rho_min must not be over sam.rho_max; the config has {found}")
    last = config.lr * config.decay_end

    def rho(step: Any) -> jax.Array:
        if last == config.lr:
            return jnp.float32(sam.rho_max)
        share = (schedule(step) - last) / (config.lr - last)
        return sam.rho_min + (sam.rho_max - sam.rho_min) * share

    return Sam(rho, sam.alpha, sam.group_size)


def summed_over_parts(
    function: Callable[[Any], Any], rows: Any, parts: int, last_apart: bool = False
) -> Any:
    """Sums function(rows) over equal parts of the rows, computed one after the other.

    Args:
        function: returns a tree of arrays that are sums over the rows it is given.
        rows: a tree of arrays with the same first axis, which `parts` must divide.
        parts: 1 or more.
        last_apart: whether the last part is not in the loop over parts but after it, for a program
            of twice the length, where what follows can begin before the part is finished.
    """
    if parts == 1:
        return function(rows)

    def add(total: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(part)), None

    several = split(rows, parts)
    first = jax.eval_shape(function, jax.tree.map(lambda x: x[0], several))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), first)
    if not last_apart:
        return jax.lax.scan(add, zeros, several)[0]
    total, _ = jax.lax.scan(add, zeros, jax.tree.map(lambda x: x[:-1], several))
    return add(total, jax.tree.map(lambda x: x[-1], several))[0]


def split(rows: Any, parts: int) -> Any:
    """Splits the first axis of all arrays of a tree: [n, ...] becomes [parts, n / parts, ...]."""
    return jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), rows)


def _sum_of_neighbours(tree: Any, axis: str | tuple[str, ...], span: int) -> Any:
    """Sums a tree over each `span` neighbouring devices of the axis."""
    if span == 1:
        return tree
    count = jax.lax.axis_size(axis)
    neighbours = [list(range(first, first + span)) for first in range(0, count, span)]
    return jax.lax.psum(tree, axis, axis_index_groups=neighbours)


def _dot(a: Any, b: Any) -> jax.Array:
    """Computes the scalar product of two trees as single vectors."""
    return sum(
        ((x * y).sum() for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)),
        start=jnp.float32(0),
    )
