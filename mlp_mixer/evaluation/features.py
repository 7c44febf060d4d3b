"""Pooled features of all images of a source."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from mlp_mixer.data import pipeline
from mlp_mixer.data.sources import Source
from mlp_mixer.training import parallel
from mlp_mixer.training.step import normalise


class Features:
    """Computes the features that a model's head would see."""

    def __init__(
        self, module: Any, mesh: Mesh, *, batch_size: int, crop: str, crop_fraction: float
    ):
        """See `data.images.eval_view` for crop and crop_fraction."""
        self._module = module.clone(num_classes=0)
        self._layout = parallel.Replicated(mesh)
        self._batch_size = batch_size
        self._view = dict(crop=crop, crop_fraction=crop_fraction)

        def features(params: Any, batch: dict[str, jax.Array]) -> tuple[jax.Array, ...]:
            found = self._module.apply({"params": params}, normalise(batch["image"]))
            return found, batch["label"], batch["mask"]

        # Every process gets the rows of all.
        self._features = jax.jit(features, out_shardings=self._layout.everywhere)

    def __call__(self, params: Any, source: Source) -> tuple[np.ndarray, np.ndarray]:
        """Features float32 [n, c] and labels [n], in the order of the source."""
        params = {name: value for name, value in params.items() if name != "head"}
        found = []
        for batch in pipeline.eval_batches(
            source,
            self._module.image_size,
            batch_size=self._layout.divisible(min(self._batch_size, len(source))),
            process=(jax.process_index(), jax.process_count()),
            **self._view,
        ):
            whole = self._features(params, self._layout.to_devices(batch))
            features, labels, mask = jax.device_get(whole)
            found.append((features[mask > 0], labels[mask > 0]))
        features, labels = zip(*found, strict=True)
        return np.concatenate(features), np.concatenate(labels)
