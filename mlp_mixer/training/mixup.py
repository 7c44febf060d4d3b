"""Mixup (Zhang et al. 2017, arXiv 1710.09412): an image and its label blended with another's.

As in the authors' code: the share that stays of an example is drawn from Beta(p, p) and is at least
a half, and its partner is the row before it. Theirs is the row before it on the same device; here
it is the row before it in the global batch, so that the number of devices changes nothing.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class Mixup:
    """How to mix.

    Attributes:
        p: both parameters of the Beta distribution, as in the paper's Table 4; 0 for no mixup.
        per_example: whether each example has a share of its own; else the batch has one, as in the
            authors' code.
    """

    p: float = 0.0
    per_example: bool = False

    def partners(
        self,
        batch: dict[str, jax.Array],
        step_key: jax.Array,
        axis: str | tuple[str, ...],
    ) -> dict[str, jax.Array]:
        """What each row of a device's part of a batch is mixed with, and the share [n] it keeps."""
        numbers = batch["row"] if self.per_example else jnp.zeros_like(batch["row"])
        # Folded with a number that no row has, which is no rng of the model either.
        key = jax.random.fold_in(step_key, 2**32 - 1)
        draw = jax.vmap(
            lambda number: jax.random.beta(
                jax.random.fold_in(key, number), self.p, self.p, dtype=jnp.float32
            )
        )
        share = draw(numbers)
        return {
            "partner_image": _row_before(batch["image"], axis),
            "partner_label": _row_before(batch["label"], axis),
            "share": jnp.maximum(share, 1 - share),
        }

    def mix(self, own: jax.Array, partner: jax.Array, share: jax.Array) -> jax.Array:
        """share * own + (1 - share) * partner, row by row; share [n], the others [n, ...]."""
        share = share.reshape(-1, *[1] * (own.ndim - 1))
        return share * own + (1 - share) * partner


def _row_before(x: jax.Array, axis: str | tuple[str, ...]) -> jax.Array:
    """Row r - 1 of the global batch for each row r of this device; row 0 gets the last one."""
    count = jax.lax.axis_size(axis)
    from_previous_device = jax.lax.ppermute(
        x[-1:], axis, [(i, (i + 1) % count) for i in range(count)]
    )
    return jnp.concatenate([from_previous_device, x[:-1]])
