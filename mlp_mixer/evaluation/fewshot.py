"""Few-shot accuracy of features: linear least squares on a few images of each class.

The protocol is that of the paper's authors (`fewshot_lsr` in big_vision): features are standardised
with the mean and deviation of the few-shot training images; a constant feature of 100 acts as a
bias that is hardly regularised; targets are -1 and 1; the regulariser is 1024 times the squared
weights; the images of each class are drawn with three seeds. The solution is in closed form.
"""

from collections.abc import Sequence
from typing import Any

import ml_collections
import numpy as np
from jax.sharding import Mesh

from mlp_mixer.data import sources
from mlp_mixer.data.sources import Source, Subset
from mlp_mixer.evaluation.features import Features
from mlp_mixer.models.class_names import match, relabel

BIAS = 100.0
L2 = 2.0**10
SEEDS = 3
SHOTS = (5, 10, 25)
CHUNK = 4096  # examples to classify at a time


class FewShot:
    """Evaluates parameters by the accuracy of a linear classifier on their features."""

    def __init__(self, features: Features, train: Source, test: Source, shots: Sequence[int]):
        """Draws the training images; the others in `train` are never decoded.

        Args:
            features: computes the features to classify.
            train: the images to draw from.
            test: the images to classify.
            shots: numbers of training images per class.

        Raises:
            ValueError: a class has too few training images, images have several labels, or the two
                sources have different classes.
        """
        labels, num_classes = train.labels(), len(train.class_names)
        self._order = match(train.class_names, test.class_names, train.name, test.name)
        for source in (train, test):
            if source.labels().ndim > 1:
                raise ValueError(f"{source.name}: images have several labels; few-shot needs one")
        if not shots or min(shots) < 1:
            raise ValueError(f"shots={tuple(shots)}: one or more numbers of images, from 1 on")
        counts = np.bincount(labels, minlength=num_classes)
        if counts.min() < max(shots):
            rarest = train.class_names[counts.argmin()]
            raise ValueError(
                f"{train.name}: class {rarest!r} has {counts.min()} images to train on, "
                f"{max(shots)} shots need more"
            )
        # The images of each seed and class, in the order in which they are drawn.
        drawn = [_draw(labels, num_classes, max(shots), seed) for seed in range(SEEDS)]
        used, positions = np.unique(drawn, return_inverse=True)
        self._drawn = positions.reshape(SEEDS, num_classes, max(shots))
        self._features, self._shots = features, tuple(shots)
        self._train, self._test = Subset(train, used), test

    @classmethod
    def from_config(
        cls,
        config: ml_collections.ConfigDict,
        module: Any,
        mesh: Mesh,
        class_names: Sequence[str],
        *,
        train_split: str,
        split: str,
        source: str = "",
        shots: Sequence[int] = SHOTS,
        crop: str = "resize",
        crop_fraction: float = 0.0,
    ) -> "FewShot":
        """Makes the evaluation from a config; source and crop_fraction default to the run's own.

        The classes are those of the images, not the run's `class_names`. The default crop is that
        of the authors, who resize to a square here, whatever the crop of other evaluations.
        """
        train, test = (
            sources.open_source(source or config.data.source, part, config.image_channels)
            for part in (train_split, split)
        )
        features = Features(
            module,
            mesh,
            batch_size=config.batch_size,
            crop=crop,
            crop_fraction=crop_fraction or config.eval_crop_fraction,
            skip_broken=config.data.skip_broken,
            workers=config.data.workers,
        )
        return cls(features, train, test, shots)

    def run(self, params: Any) -> dict[str, float]:
        """Returns the accuracy for each number of shots, the mean over seeds, as "5shot"."""
        train, train_labels, indices = self._features(params, self._train)
        test, test_labels, _ = self._features(params, self._test)
        test_labels = relabel(test_labels, self._order)
        row = np.full(len(self._train), -1)  # of `train` for each image; -1 for a broken one
        row[indices] = np.arange(len(indices))
        result = {}
        for shots in self._shots:
            accuracies = []
            for drawn in self._drawn[:, :, :shots]:
                few = row[drawn.ravel()]
                few = few[few >= 0]
                self._check_drawn(train_labels[few], shots)
                solution = fit(train[few], train_labels[few], len(drawn))
                accuracies.append(accuracy(*solution, test, test_labels))
            result[f"{shots}shot"] = float(np.mean(accuracies))
        return result

    def _check_drawn(self, labels: np.ndarray, shots: int) -> None:
        """Raises a ValueError if none of the images drawn for a class could be read."""
        counts = np.bincount(labels, minlength=len(self._train.class_names))
        if not counts.all():
            name = self._train.class_names[counts.argmin()]
            raise ValueError(
                f"{self._train.name}: all images that few-shot drew for the class {name!r} are "
                f"broken, at {shots} shots; repair or remove them"
            )


def _draw(labels: np.ndarray, num_classes: int, count: int, seed: int) -> np.ndarray:
    """Draws images of each class, and returns their indices [num_classes, count]."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(np.where(labels == k)[0])[:count] for k in range(num_classes)])


def fit(
    features: np.ndarray, labels: np.ndarray, num_classes: int, l2: float = L2
) -> tuple[np.ndarray, np.ndarray]:
    """Solves the regularised least squares problem in float64.

    Args:
        features: [n, c].
        labels: int [n].
        num_classes: k.
        l2: factor of the squared weights.

    Returns:
        (weights [c, k], bias [k]), both float64. They include the standardisation, so that the test
        features need not be copied to be standardised.
    """
    from scipy.linalg import solve

    features = features.astype(np.float64)
    mean, deviation = features.mean(0), features.std(0) + 1e-5
    x = np.pad((features - mean) / deviation, ((0, 0), (0, 1)), constant_values=BIAS)
    y = 2.0 * np.eye(num_classes)[labels] - 1.0
    n, c = x.shape
    if n >= c:
        solution = solve(x.T @ x + l2 * np.eye(c), x.T @ y, assume_a="pos")
    else:  # the same solution, from the smaller of two systems
        solution = x.T @ solve(x @ x.T + l2 * np.eye(n), y, assume_a="pos")
    weights = solution[:-1] / deviation[:, None]
    return weights, BIAS * solution[-1] - mean @ weights


def accuracy(
    weights: np.ndarray, bias: np.ndarray, features: np.ndarray, labels: np.ndarray
) -> float:
    """Returns the share of examples whose largest output is their label.

    Args:
        weights, bias: [c, k] and [k], from `fit`.
        features: [n, c].
        labels: int [n].
    """
    right = 0
    for first in range(0, len(features), CHUNK):
        part = slice(first, first + CHUNK)
        right += np.sum((features[part] @ weights + bias).argmax(-1) == labels[part])
    return float(right) / len(features)
