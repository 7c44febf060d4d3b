"""Mixup (Zhang et al. 2017, arXiv 1710.09412): blends an image and its label with another's.

As in the Mixer authors' code, the share of an example that is kept is drawn from Beta(p, p) and is
at least one half, and its partner is the row before it. There it is the row before it on the same
device; here, in the global batch, so that the result does not depend on the number of devices.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class Mixup:
    """How to mix.

    Attributes:
        p: both parameters of the Beta distribution, as in the paper's Table 4; 0 for no mixup.
        per_example: whether each example has its own share; otherwise there is one per batch, as in
            the authors' code.
    """

    p: float = 0.0
    per_example: bool = False

    def partners(
        self,
        batch: dict[str, jax.Array],
        step_key: jax.Array,
        axis: str | tuple[str, ...],
    ) -> dict[str, jax.Array]:
        """Returns what a device mixes its rows of a batch with.

        Args:
            batch: image [n, h, w, c], label [n] or [n, k], and row [n] (index in the global batch).
            step_key: random key of the training step.
            axis: name of the mapped axes of devices.

        Returns:
            partner_image and partner_label, with the shapes of image and label, and share, float32
            [n]: what each row keeps of itself.
        """
        numbers = batch["row"] if self.per_example else jnp.zeros_like(batch["row"])
        # Folded with a number that neither a row nor an rng of the model has.
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
        """Computes share * own + (1 - share) * partner; share is [n], the others are [n, ...]."""
        share = share.reshape(-1, *[1] * (own.ndim - 1))
        return share * own + (1 - share) * partner


def _row_before(x: jax.Array, axis: str | tuple[str, ...]) -> jax.Array:
    """Returns row r - 1 of the global batch for each row r of this device; row 0 gets the last."""
    count = jax.lax.axis_size(axis)
    from_previous_device = jax.lax.ppermute(
        x[-1:], axis, [(i, (i + 1) % count) for i in range(count)]
    )
    return jnp.concatenate([from_previous_device, x[:-1]])
