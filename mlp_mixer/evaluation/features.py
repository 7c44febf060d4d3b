"""Pooled features of all images in a source."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from mlp_mixer.data import images, pipeline
from mlp_mixer.data.sources import Source
from mlp_mixer.evaluation.compute import compute, forward
from mlp_mixer.models import mixer
from mlp_mixer.runtime import mesh as meshes


class Features:
    """Computes the features that are the input of a model's head."""

    def __init__(
        self,
        module: Any,
        mesh: Mesh,
        *,
        batch_size: int,
        crop: str,
        crop_fraction: float,
        skip_broken: bool = False,
        workers: int = 0,
    ):
        """Prepares the model; see `data.pipeline` for crop, skip_broken and workers.

        Raises:
            ValueError: there is no such crop.
        """
        images.check_crop(crop, crop_fraction)
        self._module = module.clone(num_classes=0)
        self._mesh = mesh
        self._batch_size = batch_size
        self._view: dict[str, Any] = dict(crop=crop, crop_fraction=crop_fraction)
        self._reading = pipeline.Reading(
            (jax.process_index(), jax.process_count()), workers, skip_broken=skip_broken
        )

        def features(params: Any, batch: dict[str, jax.Array]) -> tuple[jax.Array, ...]:
            found = forward(self._module, params, batch["image"], mesh)
            return found, batch["label"], batch["mask"]

        # Replicated, so that every process gets all rows.
        self._features = jax.jit(features, out_shardings=meshes.everywhere(mesh))

    def __call__(self, params: Any, source: Source) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Computes the features of all examples; every process returns the same.

        Returns:
            Features float32 [n, c], labels int32 [n], and indices of the examples in the source,
            int [n]. All are in order; with skip_broken, broken images are left out.
        """
        headless = {name: value for name, value in params.items() if name != "head"}
        params = mixer.rounded(self._module, headless)
        batch_size = meshes.divisible(min(self._batch_size, len(source)), self._mesh)
        found = []
        batches = pipeline.eval_batches(
            source,
            self._module.image_size,
            batch_size=batch_size,
            reading=self._reading,
            **self._view,
        )
        computed = compute(self._features, params, batches, self._mesh)
        for number, (_, (features, labels, mask)) in enumerate(computed):
            good = np.flatnonzero(mask)
            found.append((features[good], labels[good], number * batch_size + good))
        features, labels, indices = map(np.concatenate, zip(*found, strict=True))
        return features, labels, indices
