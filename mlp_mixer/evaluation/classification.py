"""Accuracy and loss on a labelled data set, and predictions for each example."""

import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh

from mlp_mixer.data import images, pipeline, sources
from mlp_mixer.data.sources import Source
from mlp_mixer.evaluation.compute import compute, forward
from mlp_mixer.models import losses, mixer
from mlp_mixer.models.class_names import match, relabel
from mlp_mixer.models.losses import to_probabilities
from mlp_mixer.runtime import mesh as meshes


class Classification:
    """Evaluates parameters on every example of a source, each exactly once.

    If examples may have several labels (ImageNet-ReaL), a prediction is correct if it is one of
    them, and examples without labels are left out. Labels are indices of the model's outputs,
    whatever the order of classes in the source.
    """

    def __init__(
        self,
        module: Any,
        source: Source,
        mesh: Mesh,
        *,
        batch_size: int,
        crop: str = "resmall",
        crop_fraction: float = 1.0,
        loss: str = "softmax",
        skip_broken: bool = False,
        workers: int = 0,
        class_names: Sequence[str] | None = None,
        model_is: str = "the model",
        subsets: Mapping[str, np.ndarray] | None = None,
    ):
        """Prepares the evaluation of a model on a source.

        Args:
            module: the model; its image size is that of the evaluation.
            source: the examples.
            mesh: devices to compute on.
            batch_size: largest batch size; it is rounded to fit the mesh.
            crop, crop_fraction: see `data.pipeline.eval_batches`.
            skip_broken, workers: see `data.pipeline.Reading`.
            loss: a key of `losses.LOSSES`.
            class_names: names of the model's outputs, if known; see `models.class_names.match`.
            model_is: what to call the model in messages.
            subsets: places of some of the model's outputs, by a name for each such choice. Examples
                of these classes are also judged by the largest of these logits alone.

        Raises:
            ValueError: source and model have different classes, or there is no such crop.
        """
        self._module, self._mesh = module, mesh
        self._outputs = module.num_classes if class_names is None else class_names
        self._model_is = model_is
        self._most = batch_size
        self._reading = pipeline.Reading(
            (jax.process_index(), jax.process_count()), workers, skip_broken=skip_broken
        )
        self._use(source, crop, crop_fraction)
        top5 = ["top5"] if module.num_classes > 5 else []  # the best five of five are all
        self._scalars = ("accuracy", *top5, "loss", "examples")
        self._subsets = dict(subsets or {})
        loss_fn = losses.get(loss)

        def sums(params: Any, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
            logits = forward(module, params, batch["image"], mesh)
            targets = losses.targets(batch["label"], module.num_classes)
            best = jax.lax.top_k(logits, min(5, module.num_classes))[1]
            right = jnp.take_along_axis(targets, best, axis=1) > 0
            values = {
                "accuracy": right[:, 0],
                "top5": right.any(1),
                "loss": loss_fn(logits, targets),
                "examples": jnp.ones(len(logits), jnp.float32),
            }
            counted = batch["mask"] * (targets.max(1) > 0)
            found = {name: (values[name] * counted).sum() for name in self._scalars}
            for name, places in self._subsets.items():
                among = targets[:, places]
                best = logits[:, places].argmax(1)
                right = jnp.take_along_axis(among, best[:, None], axis=1)[:, 0] > 0
                found[f"{name}/accuracy"] = (right * batch["mask"]).sum()
                found[f"{name}/examples"] = ((among.max(1) > 0) * batch["mask"]).sum()
            return found

        def probabilities(params: Any, batch: dict[str, jax.Array]) -> jax.Array:
            return to_probabilities(forward(module, params, batch["image"], mesh), loss)

        self._sums = jax.jit(sums, out_shardings=meshes.everywhere(mesh))
        self._probabilities = jax.jit(probabilities, out_shardings=meshes.everywhere(mesh))

    def on(
        self, source: Source, crop: str | None = None, crop_fraction: float | None = None
    ) -> "Classification":
        """Returns the same evaluation of another source, for which nothing is compiled anew.

        Raises:
            ValueError: see `__init__`.
        """
        other = copy.copy(self)
        other._use(source, crop or self._view["crop"], crop_fraction or self._view["crop_fraction"])
        return other

    def _use(self, source: Source, crop: str, crop_fraction: float) -> None:
        self._order = match(self._outputs, source.class_names, self._model_is, source.name)
        images.check_crop(crop, crop_fraction)
        self._source = source
        self._batch_size = meshes.divisible(min(self._most, len(source)), self._mesh)
        self._view: dict[str, Any] = dict(crop=crop, crop_fraction=crop_fraction)

    @classmethod
    def from_config(
        cls,
        config: ml_collections.ConfigDict,
        module: Any,
        mesh: Mesh,
        class_names: Sequence[str],
        *,
        split: str,
        source: str = "",
        crop: str = "",
        crop_fraction: float = 0.0,
    ) -> "Classification":
        """Makes the evaluation from a config's fields; source and crop default to the run's own."""
        opened = sources.open_source(source or config.data.source, split, config.image_channels)
        return cls(
            module,
            opened,
            mesh,
            batch_size=config.batch_size,
            crop=crop or config.eval_crop,
            crop_fraction=crop_fraction or config.eval_crop_fraction,
            loss=config.loss,
            skip_broken=config.data.skip_broken,
            workers=config.data.workers,
            class_names=class_names,
            model_is="the run",
        )

    def _batches(self) -> Iterator[dict[str, np.ndarray]]:
        batches = pipeline.eval_batches(
            self._source,
            self._module.image_size,
            batch_size=self._batch_size,
            reading=self._reading,
            **self._view,
        )
        return (batch | {"label": relabel(batch["label"], self._order)} for batch in batches)

    def run(self, params: Any) -> dict[str, float]:
        """Evaluates parameters on every example.

        Returns:
            "accuracy" and "top5" (shares), "loss" (the mean), and "examples" (the number counted).
            A model of at most 5 classes has no "top5": it would always be 1. For each subset NAME
            with examples "NAME/accuracy" and "NAME/examples".

        Raises:
            ValueError: no example has a label.
        """
        totals: dict[str, float] = defaultdict(float)
        params = mixer.rounded(self._module, params)
        for _, sums in compute(self._sums, params, self._batches(), self._mesh):
            for name, value in sums.items():
                totals[name] += float(value)
        if not (examples := totals["examples"]):
            raise ValueError(f"no example of {self._source.name} has a label")
        found = {name: totals[name] / examples for name in self._scalars} | {"examples": examples}
        for name in self._subsets:
            if count := totals[f"{name}/examples"]:
                found[f"{name}/accuracy"] = totals[f"{name}/accuracy"] / count
                found[f"{name}/examples"] = count
        return found

    def predict(self, params: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predicts every example. Works in a single process only.

        Returns:
            Probabilities float32 [n, classes], labels int32 [n] or uint8 [n, classes], and indices
            of the examples in the source, int [n]. All are in order; with skip_broken, broken
            images are left out.
        """
        found = []
        params = mixer.rounded(self._module, params)
        computed = compute(self._probabilities, params, self._batches(), self._mesh)
        for number, (batch, whole) in enumerate(computed):
            good = np.flatnonzero(batch["mask"])
            found.append((whole[good], batch["label"][good], number * self._batch_size + good))
        probabilities, labels, indices = map(np.concatenate, zip(*found, strict=True))
        return probabilities, labels, indices
