"""Accuracy and loss on a labelled data set; predictions for each of its examples."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh

from mlp_mixer.data import pipeline, sources
from mlp_mixer.data.sources import Source
from mlp_mixer.evaluation.classifier import to_probabilities
from mlp_mixer.models.mixer import MlpMixer
from mlp_mixer.training import losses, parallel
from mlp_mixer.training.step import normalise


class Classification:
    """Evaluates parameters on every example of a source, each exactly once."""

    def __init__(
        self,
        module: MlpMixer,
        source: Source,
        mesh: Mesh,
        *,
        batch_size: int,
        crop_fraction: float = 1.0,
        loss: str = "softmax",
    ):
        """See `data.images.resize_and_crop` for crop_fraction."""
        self._module, self._source = module, source
        self._layout = parallel.Replicated(mesh)
        # As many rows as asked for, up to what the devices divide evenly.
        self._batch_size = -(-min(batch_size, len(source)) // mesh.size) * mesh.size
        self._crop_fraction = crop_fraction
        loss_fn = losses.get(loss)

        def sums(params: Any, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
            logits = module.apply({"params": params}, normalise(batch["image"]))
            targets = losses.targets(batch["label"], module.num_classes)
            values = {
                "accuracy": logits.argmax(-1) == batch["label"],
                "loss": loss_fn(logits, targets),
                "examples": jnp.ones(len(logits)),
            }
            return {name: (value * batch["mask"]).sum() for name, value in values.items()}

        def probabilities(params: Any, batch: dict[str, jax.Array]) -> jax.Array:
            logits = module.apply({"params": params}, normalise(batch["image"]))
            return to_probabilities(logits, loss)

        everywhere = self._layout.everywhere
        self._sums = jax.jit(sums, out_shardings=everywhere)
        self._probabilities = jax.jit(probabilities, out_shardings=everywhere)

    @classmethod
    def from_config(
        cls,
        fields: ml_collections.ConfigDict,
        config: ml_collections.ConfigDict,
        module: MlpMixer,
        mesh: Mesh,
    ) -> "Classification":
        """From `fields` (split; source, by default the one to train on) of a run's `config`."""
        spec = fields.get("source") or config.data.source
        return cls(
            module,
            sources.open_source(spec, fields.split, config.image_channels),
            mesh,
            batch_size=config.batch_size,
            crop_fraction=config.eval_crop,
            loss=config.loss,
        )

    def _batches(self):
        return pipeline.eval_batches(
            self._source,
            self._module.image_size,
            batch_size=self._batch_size,
            crop_fraction=self._crop_fraction,
            process=(jax.process_index(), jax.process_count()),
        )

    def run(self, params: Any) -> dict[str, float]:
        """Mean accuracy and loss, and the number of examples."""
        totals = {"accuracy": 0.0, "loss": 0.0, "examples": 0.0}
        for batch in self._batches():
            sums = jax.device_get(self._sums(params, self._layout.to_devices(batch)))
            totals = {name: totals[name] + float(sums[name]) for name in totals}
        examples = totals.pop("examples")
        return {name: total / examples for name, total in totals.items()} | {"examples": examples}

    def predict(self, params: Any) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities [n, classes] and labels [n] of all examples, in order; one process only."""
        found = []
        for batch in self._batches():
            on_devices = self._layout.to_devices(batch)
            whole = jax.device_get(self._probabilities(params, on_devices))
            found.append((whole[batch["mask"] > 0], batch["label"][batch["mask"] > 0]))
        probabilities, labels = zip(*found, strict=True)
        return np.concatenate(probabilities), np.concatenate(labels)
