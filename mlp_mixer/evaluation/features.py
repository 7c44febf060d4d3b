"""Pooled features of all images of a source."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from mlp_mixer.data import images, pipeline
from mlp_mixer.data.sources import Source
from mlp_mixer.models.pixels import forward
from mlp_mixer.runtime import mesh as meshes


class Features:
    """Computes the features that a model's head would see."""

    def __init__(
        self,
        module: Any,
        mesh: Mesh,
        *,
        batch_size: int,
        crop: str,
        crop_fraction: float,
        skip_broken: bool = False,
    ):
        """See `data.pipeline.eval_batches` for crop, crop_fraction and skip_broken."""
        images.check_crop(crop, crop_fraction)
        self._module = module.clone(num_classes=0)
        self._mesh = mesh
        self._batch_size = batch_size
        self._view: dict[str, Any] = dict(crop=crop, crop_fraction=crop_fraction)
        self._skip_broken = skip_broken

        def features(params: Any, batch: dict[str, jax.Array]) -> tuple[jax.Array, ...]:
            found = forward(self._module, params, batch["image"])
            return found, batch["label"], batch["mask"]

        # Every process gets the rows of all.
        self._features = jax.jit(features, out_shardings=meshes.everywhere(mesh))

    def __call__(self, params: Any, source: Source) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features float32 [n, c], labels [n] and indices [n] of examples, in order.

        Without skip_broken the indices are all there are. Every process gets the same.
        """
        params = {name: value for name, value in params.items() if name != "head"}
        batch_size = meshes.divisible(min(self._batch_size, len(source)), self._mesh)
        found = []
        batches = pipeline.eval_batches(
            source,
            self._module.image_size,
            batch_size=batch_size,
            reading=pipeline.Reading(
                (jax.process_index(), jax.process_count()), skip_broken=self._skip_broken
            ),
            **self._view,
        )
        for number, batch in enumerate(batches):
            whole = self._features(params, meshes.to_devices(batch, self._mesh))
            features, labels, mask = jax.device_get(whole)
            good = np.flatnonzero(mask)
            found.append((features[good], labels[good], number * batch_size + good))
        features, labels, indices = map(np.concatenate, zip(*found, strict=True))
        return features, labels, indices
