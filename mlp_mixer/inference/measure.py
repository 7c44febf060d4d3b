"""Measures a finished model on data, by the protocol that its weights or its run specify."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike, fspath
from typing import Any

import numpy as np

from mlp_mixer.data import crews, images
from mlp_mixer.data.images import Crop
from mlp_mixer.data.sources import Source, open_source, spread
from mlp_mixer.evaluation import fewshot
from mlp_mixer.evaluation.classification import Classification
from mlp_mixer.evaluation.features import Features
from mlp_mixer.inference.classifier import Classifier, computing_in, load_classifier
from mlp_mixer.models.dtypes import Dtype
from mlp_mixer.runs.folder import read_config, workdir_of
from mlp_mixer.runtime.mesh import make_mesh
from mlp_mixer.weights.load import read
from mlp_mixer.weights.resize import Resize


@dataclass(frozen=True)
class Predictions:
    """A model's prediction for each example of a data set.

    Attributes:
        class_names: one for each output of the model.
        labels: int [n], the true classes, numbered as the outputs are.
        guesses: int [n], the most likely classes.
        confidences: float [n], their probabilities.
        indices: int [n], the examples' numbers in the data set.
    """

    class_names: tuple[str, ...] = field(repr=False)
    labels: np.ndarray
    guesses: np.ndarray
    confidences: np.ndarray
    indices: np.ndarray

    def confusion(self) -> np.ndarray:
        """Counts examples, int [k, k], by true class (row) and predicted class (column)."""
        k = len(self.class_names)
        pairs = self.labels.astype(np.int64) * k + self.guesses
        return np.bincount(pairs, minlength=k * k).reshape(k, k)

    def per_class(self) -> dict[str, tuple[float, int]]:
        """Returns the accuracy and the number of examples of each class that has any."""
        matrix = self.confusion()
        counts = matrix.sum(1)
        return {
            name: (float(matrix[i, i] / counts[i]), int(counts[i]))
            for i, name in enumerate(self.class_names)
            if counts[i]
        }

    def errors(self, count: int) -> np.ndarray:
        """Returns the numbers of at most `count` wrong predictions, from as many classes as it can.

        The most confident error of each class comes first, then the second of each, and so on.
        """
        wrong = np.flatnonzero(self.guesses != self.labels)
        return self._by_class(wrong, count)

    def right(self, count: int) -> np.ndarray:
        """Returns the numbers of at most `count` right predictions, chosen as `errors` are."""
        return self._by_class(np.flatnonzero(self.guesses == self.labels), count)

    def _by_class(self, chosen: np.ndarray, count: int) -> np.ndarray:
        order = chosen[np.argsort(-self.confidences[chosen], kind="stable")]
        rank = np.zeros(len(order), np.int64)  # of each prediction within its class
        for label in np.unique(self.labels[order]):
            of_class = self.labels[order] == label
            rank[of_class] = np.arange(of_class.sum())
        return order[np.argsort(rank, kind="stable")][:count]


@dataclass(frozen=True)
class Evaluation:
    """A model's results on a data set.

    Attributes:
        source: the name of the data set.
        crop: how images were cropped, "resmall" or "resize".
        crop_fraction: share of each side of the resized image that was seen.
        accuracy: share of the examples whose most likely class is right.
        top5: share of the examples with the right class among the five most likely; None if there
            are no more than five.
        loss: the mean over examples of the loss that the model was trained with.
        examples: the number of examples that were counted.
    """

    source: str
    crop: Crop
    crop_fraction: float
    accuracy: float
    top5: float | None
    loss: float
    examples: int
    _classifier: Classifier = field(repr=False)
    _data: Source = field(repr=False)
    _evaluation: Classification = field(repr=False)

    def scalars(self) -> dict[str, Any]:
        """Returns the fields that are numbers or names, for a table or for JSON."""
        names = ("source", "accuracy", "top5", "loss", "examples", "crop", "crop_fraction")
        return {name: x for name in names if (x := getattr(self, name)) is not None}

    @cached_property
    def predictions(self) -> Predictions:
        """The prediction for each example; the data set is read once more to compute it.

        Raises:
            ValueError: examples have several labels.
        """
        probabilities, labels, indices = self._evaluation.predict(self._classifier.params)
        if labels.ndim > 1:
            raise ValueError(
                f"examples of {self.source} have several labels, so there are no errors by class"
            )
        guesses = probabilities.argmax(-1)
        confidences = np.take_along_axis(probabilities, guesses[:, None], 1)[:, 0]
        names = self._classifier.class_names or self._data.class_names
        return Predictions(tuple(names), labels, guesses, confidences, indices)

    def view(self, i: int) -> np.ndarray:
        """Returns the image of prediction i as the model sees it, uint8 [h, w, channels]."""
        image, _ = self._data[int(self.predictions.indices[i])]
        size = self._classifier.module.image_size
        return images.eval_view(image, size, self.crop, self.crop_fraction)


def evaluate(
    checkpoint: str | PathLike,
    source: str | None = None,
    split: str | None = None,
    *,
    crop: Crop | None = None,
    crop_fraction: float | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    examples: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    patch_size: int | tuple[int, int] | None = None,
    resize: Resize = "auto",
    dtype: Dtype = "auto",
) -> Evaluation:
    """Measures a model's accuracy on a labelled data set, every example counted once.

    Arguments that are not given are taken from the run that the weights belong to.

    Args:
        checkpoint: weights of any source that `mlp_mixer.load` reads.
        source: a data source such as "folder:PATH".
        split: the split of the source; "test" if no run says otherwise.
        crop: "resmall" keeps the aspect ratio when images are resized, "resize" does not.
        crop_fraction: share of each side of the resized image that is seen.
        batch_size: images at a time.
        workers: processes that load images; 0 for threads, enough for a few CPUs. By default
            those that the run trained with, at most one per CPU.
        examples: how many to count, evenly spread over the data set; by default all.
        image_size: the model's, if another than the weights'; see `mlp_mixer.load`.
        patch_size: likewise.
        resize: how weights are adapted to other sizes, "auto", "tile" or "resample".
        dtype: number type of the computation; see `inference.classifier.computing_in`.

    Raises:
        ValueError: `examples` is not positive, no source is given and none is known, or its classes
            are not the model's.
        FileNotFoundError: there are no such weights.
    """
    classifier = load_classifier(
        checkpoint, image_size=image_size, patch_size=patch_size, resize=resize, dtype=dtype
    )
    config = _config(checkpoint)
    test = config["evals"].get("test") or config["evals"].get("val") or {}
    spec = source or test.get("source") or config["data"].get("source")
    if not spec:
        raise ValueError(
            "give a source (--source): this checkpoint does not say on which data it is used"
        )
    crop = crop or test.get("crop") or classifier.crop
    fraction = crop_fraction
    if fraction is None:  # in a config, 0 stands for the run's
        fraction = test.get("crop_fraction") or classifier.crop_fraction
    channels = classifier.module.image_channels
    data = open_source(spec, split or test.get("split") or "test", channels)
    if examples is not None:
        data = spread(data, examples)
    evaluation = Classification(
        classifier.module,
        data,
        make_mesh(),
        batch_size=batch_size,
        crop=crop,
        crop_fraction=fraction,
        loss=classifier.loss,
        skip_broken=config["data"].get("skip_broken", False),
        workers=workers_of(checkpoint, workers),
        class_names=classifier.class_names,
        model_is=fspath(checkpoint),
    )
    result = evaluation.run(classifier.params)
    return Evaluation(
        data.name, crop, fraction, result["accuracy"], result.get("top5"), result["loss"],
        int(result["examples"]), classifier, data, evaluation,
    )  # fmt: skip


@dataclass(frozen=True)
class FewShots:
    """Few-shot accuracies, as means over `fewshot.SEEDS` draws of the training images.

    Attributes:
        source: the name of the data set.
        crop: how images were cropped, "resmall" or "resize".
        crop_fraction: share of each side of the resized image that was seen.
        accuracy: by the number of training images of each class, such as "5shot".
        examples: the number of images that were classified.
    """

    source: str
    crop: Crop
    crop_fraction: float
    accuracy: dict[str, float]
    examples: int


def few_shot(
    checkpoint: str | PathLike,
    source: str,
    split: str = "test",
    *,
    train_split: str = "train",
    shots: int | Sequence[int] = fewshot.SHOTS,
    crop: Crop = "resize",
    crop_fraction: float | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    patch_size: int | tuple[int, int] | None = None,
    resize: Resize = "auto",
    dtype: Dtype = "auto",
) -> FewShots:
    """Measures the accuracy of a linear probe, fitted to the features of a few images per class.

    The probe is a least-squares fit; see `evaluation.fewshot`.

    Args:
        checkpoint: weights of any source that `mlp_mixer.load` reads; a head is not needed.
        source: a data source.
        split: the split to classify.
        train_split: the split from which the few images are drawn.
        shots: number of images of each class, or several, which are measured each.
        crop: "resmall" keeps the aspect ratio when images are resized, "resize" does not.
        crop_fraction: share of each side of the resized image that is seen; by default that
            of the run or the weights.
        batch_size: images at a time.
        workers: processes that load images; 0 for threads, enough for a few CPUs. By default
            those that the run trained with, at most one per CPU.
        image_size: the model's, if another than the weights'; see `mlp_mixer.load`.
        patch_size: likewise.
        resize: how weights are adapted to other sizes, "auto", "tile" or "resample".
        dtype: number type of the computation; see `inference.classifier.computing_in`.

    Raises:
        ValueError: a class has too few images, or images have several labels.
    """
    shots = (shots,) if isinstance(shots, int) else shots
    module, params, said = read(checkpoint, 0, image_size, patch_size, resize)
    train, test = (
        open_source(source, part, module.image_channels) for part in (train_split, split)
    )
    fraction = said.get("crop_fraction", 0.875) if crop_fraction is None else crop_fraction
    workers = workers_of(checkpoint, workers)
    features = Features(
        computing_in(module, dtype, checkpoint),
        make_mesh(),
        batch_size=batch_size,
        crop=crop,
        crop_fraction=fraction,
        skip_broken=_config(checkpoint)["data"].get("skip_broken", False),
        workers=workers,
    )
    with crews.keep_processes(workers):
        accuracy = fewshot.FewShot(features, train, test, shots).run(params)
    return FewShots(train.name, crop, fraction, accuracy, len(test))


def workers_of(checkpoint: str | PathLike, workers: int | None) -> int:
    """Returns `workers`, or else the number of worker processes of the run of a checkpoint."""
    if workers is None:
        return crews.usable(_config(checkpoint)["data"].get("workers", 0))
    if workers < 0:
        raise ValueError(f"workers={workers}; give a number of processes, or 0 for threads")
    return workers


def _config(checkpoint: str | PathLike) -> dict[str, Any]:
    """Returns the config of the run that weights belong to, or one without fields."""
    workdir = workdir_of(checkpoint)
    return read_config(workdir) if workdir else {"data": {}, "evals": {}}
