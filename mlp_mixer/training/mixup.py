"""Mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899): an image and its label with another's.

Mixup blends the two images, CutMix puts a rectangle of one into the other; labels are blended by
the share of each. The partner of a row is the row before it. In the Mixer authors' code it is the
row before it on the same device; here, in the global batch, so that the result does not depend on
the number of devices. Mixup's share is drawn from Beta(p, p) and is at least one half, as there.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class Mixup:
    """How to mix.

    Attributes:
        p: both parameters of the Beta distribution, as in the paper's Table 4; 0 for no mixup.
        per_example: whether each example has its own draws; otherwise there are those of the batch,
            as in the authors' code.
        cutmix: both parameters of the Beta distribution of CutMix's share; 0 for no CutMix.
        cutmix_probability: how often CutMix takes the place of mixup, or of nothing.
    """

    p: float = 0.0
    per_example: bool = False
    cutmix: float = 0.0
    cutmix_probability: float = 0.5

    @property
    def is_on(self) -> bool:
        """Whether anything is mixed."""
        return bool(self.p or self.cutmix)

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
            [n]: what each row keeps of itself. With CutMix also box, int32 [n, 4]: top, bottom,
            left and right of the rectangle that is the partner's, empty where mixup has its turn.
        """
        numbers = batch["row"] if self.per_example else jnp.zeros_like(batch["row"])
        # Folded with a number that neither a row nor an rng of the model has.
        key = jax.random.fold_in(step_key, 2**32 - 1)
        keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)
        found = {
            "partner_image": _row_before(batch["image"], axis),
            "partner_label": _row_before(batch["label"], axis),
            "share": jnp.ones(len(numbers), jnp.float32),
        }
        if self.p:
            share = jax.vmap(lambda key: jax.random.beta(key, self.p, self.p, dtype=jnp.float32))(
                keys
            )
            found["share"] = jnp.maximum(share, 1 - share)
        if self.cutmix:
            size = batch["image"].shape[1:3]
            cuts, boxes, shares = jax.vmap(lambda key: self._cut(key, size))(keys)
            found["box"] = jnp.where(cuts[:, None], boxes, 0)
            found["share"] = jnp.where(cuts, shares, found["share"])
        return found

    def _cut(self, key: jax.Array, size: tuple[int, ...]) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Draws whether CutMix has its turn, its rectangle, and the share that is left of a row.

        The rectangle has the image's aspect ratio and its centre anywhere in the image, beyond the
        borders of which it is cut off.
        """
        # The key itself was used for mixup's share.
        turn, share, *middles = jax.random.split(jax.random.fold_in(key, 1), 4)
        cuts = jax.random.uniform(turn, dtype=jnp.float32) < self.cutmix_probability
        length = jnp.sqrt(1 - jax.random.beta(share, self.cutmix, self.cutmix, dtype=jnp.float32))
        edges = []
        for middle, pixels in zip(middles, size, strict=True):
            half = jnp.int32(pixels * length) // 2
            centre = jax.random.randint(middle, (), 0, pixels, jnp.int32)
            edges += [jnp.maximum(centre - half, 0), jnp.minimum(centre + half, pixels)]
        top, bottom, left, right = edges
        taken = (bottom - top) * (right - left)
        return cuts, jnp.stack(edges), 1 - taken.astype(jnp.float32) / (size[0] * size[1])

    def mix_images(
        self, own: jax.Array, partner: jax.Array, rows: dict[str, jax.Array]
    ) -> jax.Array:
        """Mixes images [n, h, w, c] with their partners, as `partners` says."""
        if not self.cutmix:
            return self.mix(own, partner, rows["share"])
        top, bottom, left, right = (edge[:, None, None] for edge in rows["box"].T)
        y, x = jnp.arange(own.shape[1])[:, None], jnp.arange(own.shape[2])
        in_box = (top <= y) & (y < bottom) & (left <= x) & (x < right)  # [n, h, w]
        blended = self.mix(own, partner, rows["share"]) if self.p else own
        has_box = (bottom > top) & (right > left)
        cut = jnp.where(in_box[..., None], partner, own)
        return jnp.where(has_box[..., None], cut, blended)

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
