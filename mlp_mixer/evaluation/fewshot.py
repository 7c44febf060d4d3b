"""Few-shot accuracy of features: linear least squares from a few images of each class.

The protocol is that of the paper's authors (`fewshot_lsr` in big_vision): features are standardised
with mean and deviation of the few-shot training images, a constant feature of 100 makes a bias that
is hardly regularised, targets are -1 and 1, the regulariser is 1024 times the squared weights, and
images of each class are drawn with three seeds. The solution is in closed form.
"""

from collections.abc import Sequence
from typing import Any

import ml_collections
import numpy as np
from jax.sharding import Mesh

from mlp_mixer.data import sources
from mlp_mixer.data.sources import Source, Subset
from mlp_mixer.evaluation.features import Features

BIAS = 100.0
L2 = 2.0**10
SEEDS = 3


class FewShot:
    """Evaluates parameters by what a linear classifier learns from their features."""

    def __init__(self, features: Features, train: Source, test: Source, shots: Sequence[int]):
        """`shots` are numbers of training images of each class.

        Raises:
            ValueError: a class has fewer training images.
        """
        labels = train.labels()
        counts = np.bincount(labels, minlength=len(train.class_names))
        if counts.min() < max(shots):
            rarest = train.class_names[counts.argmin()]
            raise ValueError(
                f"{train.name}: class {rarest!r} has {counts.min()} images to train on, "
                f"{max(shots)} shots need more"
            )
        # Of each seed and class the images in the order in which they are drawn.
        drawn = [_draw(labels, len(train.class_names), max(shots), seed) for seed in range(SEEDS)]
        self._used, positions = np.unique(drawn, return_inverse=True)
        self._drawn = positions.reshape(SEEDS, len(train.class_names), max(shots))
        self._features, self._shots = features, tuple(shots)
        self._train, self._test = Subset(train, self._used), test

    @classmethod
    def from_config(
        cls,
        fields: ml_collections.ConfigDict,
        config: ml_collections.ConfigDict,
        module: Any,
        mesh: Mesh,
    ) -> "FewShot":
        """From `fields` (train_split, split, shots; source, by default the one to train on)."""
        spec = fields.source or config.data.source
        train, test = (
            sources.open_source(spec, split, config.image_channels)
            for split in (fields.train_split, fields.split)
        )
        # The authors resize to a square here, whatever the crop of other evaluations.
        features = Features(
            module,
            mesh,
            batch_size=config.batch_size,
            crop="resize",
            crop_fraction=config.eval_crop_fraction,
        )
        return cls(features, train, test, fields.shots)

    def run(self, params: Any) -> dict[str, float]:
        """Accuracy for each number of shots, the mean over seeds, as "5shot"."""
        train, train_labels = self._features(params, self._train)
        test, test_labels = self._features(params, self._test)
        result = {}
        for shots in self._shots:
            accuracies = []
            for drawn in self._drawn[:, :, :shots]:
                few = drawn.ravel()
                predict = fit(train[few], train_labels[few], len(drawn))
                accuracies.append((predict(test) == test_labels).mean())
            result[f"{shots}shot"] = float(np.mean(accuracies))
        return result


def _draw(labels: np.ndarray, num_classes: int, count: int, seed: int) -> np.ndarray:
    """Indices [num_classes, count] of the images of each class that a seed draws."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(np.where(labels == k)[0])[:count] for k in range(num_classes)])


def fit(features: np.ndarray, labels: np.ndarray, num_classes: int, l2: float = L2):
    """Solves the regularised least squares.

    Args:
        features: [n, c].
        labels: int [n].
        num_classes: k.
        l2: factor of the squared weights.

    Returns:
        A function of features [m, c] to predicted classes [m].
    """
    mean, deviation = features.mean(0), features.std(0) + 1e-5

    def standardise(x: np.ndarray, dtype: Any) -> np.ndarray:
        x = ((x - mean) / deviation).astype(dtype)
        return np.pad(x, ((0, 0), (0, 1)), constant_values=BIAS)

    x = standardise(features, np.float64)
    y = 2.0 * np.eye(num_classes)[labels] - 1.0
    n, c = x.shape
    if n >= c:
        weights = np.linalg.solve(x.T @ x + l2 * np.eye(c), x.T @ y)
    else:  # the same solution from the smaller system
        weights = x.T @ np.linalg.solve(x @ x.T + l2 * np.eye(n), y)
    weights = weights.astype(np.float32)
    return lambda new: (standardise(new, np.float32) @ weights).argmax(-1)
