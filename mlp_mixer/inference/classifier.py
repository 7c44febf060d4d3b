"""A model with everything that is needed to classify images with it."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from mlp_mixer.data import images
from mlp_mixer.data.images import Crop
from mlp_mixer.models.losses import Loss, to_probabilities
from mlp_mixer.models.pixels import forward
from mlp_mixer.weights.load import read
from mlp_mixer.weights.resize import Resize

BATCH = 32  # images at a time, so that memory does not grow with their number

ImageLike = str | Path | Image.Image | np.ndarray


class Guess(NamedTuple):
    """A class that an image may have, and its probability."""

    name: str
    probability: float


@dataclass(frozen=True)
class Classifier:
    """A model, its parameters, what its outputs mean and how its inputs are cropped.

    Attributes:
        module: the model; a Mixer, or another one of a run.
        params: its parameters, a nested dict of arrays.
        class_names: one for each output; None if they are unknown.
        crop: "resmall" keeps the aspect ratio when images are resized, "resize" does not.
        crop_fraction: share of each side of the resized image that is seen.
        loss: the loss that it was trained with. With "sigmoid" each class has a probability of its
            own, and they need not sum to 1.
    """

    module: Any
    params: dict[str, Any] = field(repr=False)  # a notebook would show pages of them
    class_names: tuple[str, ...] | None = field(repr=False)
    crop: Crop
    crop_fraction: float
    loss: Loss

    @property
    def output_names(self) -> tuple[str, ...]:
        """The class names, or "class 0" and so on if they are unknown."""
        numbered = tuple(f"class {i}" for i in range(self.module.num_classes))
        return numbered if self.class_names is None else self.class_names

    def view(self, image: ImageLike) -> np.ndarray:
        """Returns one image as the model sees it, uint8 [h, w, channels]; see `images.read_image`.

        It is resized and cropped as in the evaluation of the model.
        """
        pixels = images.read_image(image, self.module.image_channels)
        return images.eval_view(pixels, self.module.image_size, self.crop, self.crop_fraction)

    def probabilities(self, images: ImageLike | Iterable[ImageLike]) -> np.ndarray:
        """Computes the probability of each class for each image.

        Args:
            images: one image or several, each a path, an address, a PIL image, or an array uint8
                [h, w] or [h, w, c] of any size. An array uint8 [n, h, w, c] is n images.

        Returns:
            float32 [n, classes]; n is 1 for one image.

        Raises:
            BrokenImage: a file is not an image; names it.
            OSError: a file cannot be read.
        """
        rows = [self.of_views(np.stack(views)) for views in _batches(map(self.view, _each(images)))]
        return np.concatenate(rows) if rows else np.zeros((0, self.module.num_classes), np.float32)

    def classify(self, images: ImageLike | Iterable[ImageLike], top: int = 5) -> list[list[Guess]]:
        """Returns the `top` most likely classes of each image; `images` as for `probabilities`."""
        return [self.guesses(row, top) for row in self.probabilities(images)]

    def guesses(self, probabilities: np.ndarray, top: int) -> list[Guess]:
        """Names the `top` most likely classes, given probabilities [classes].

        Raises:
            ValueError: `top` is less than 1.
        """
        if top < 1:
            raise ValueError(f"top={top} must be at least 1")
        best = np.argsort(-probabilities, kind="stable")[:top]
        return [Guess(self.output_names[i], float(probabilities[i])) for i in best]

    def of_views(self, views: np.ndarray) -> np.ndarray:
        """Computes probabilities [n, classes] for images as `view` returns them, uint8 [n, ...]."""
        return np.asarray(self._apply(self.params, views))

    @cached_property
    def _apply(self) -> Any:
        def apply(params: Any, views: jax.Array) -> jax.Array:
            return to_probabilities(forward(self.module, params, views), self.loss)

        return jax.jit(apply)


def _each(images: ImageLike | Iterable[ImageLike]) -> Iterable[ImageLike]:
    if isinstance(images, str | Path | Image.Image):
        return [images]
    if isinstance(images, np.ndarray) and images.ndim < 4:
        return [images]
    return images


def _batches(views: Iterator[np.ndarray]) -> Iterator[Sequence[np.ndarray]]:
    while some := list(itertools.islice(views, BATCH)):
        yield some


def load_classifier(
    source: str | Path,
    *,
    image_size: int | tuple[int, int] | None = None,
    patch_size: int | tuple[int, int] | None = None,
    resize: Resize = "auto",
) -> Classifier:
    """Reads weights of a model, with what they or their run say about their use.

    If nothing says how to crop images or which loss was used, the released files' defaults apply:
    the middle 7/8 of the image, and a softmax.

    Args:
        source: weights of any source that `mlp_mixer.load` reads.
        image_size: the model's, if another than the weights'; see `mlp_mixer.load`.
        patch_size: likewise.
        resize: how weights are adapted to other sizes, "auto", "tile" or "resample".

    Raises:
        FileNotFoundError: there is no such file or run.
        ValueError: there are no weights of a model, or the model has no head.
    """
    module, params, said = read(source, image_size=image_size, patch_size=patch_size, resize=resize)
    if not module.num_classes:
        raise ValueError(f"{source} has no head, so it cannot classify images")
    return Classifier(
        module,
        params,
        said.get("class_names"),
        said.get("crop", "resmall"),
        said.get("crop_fraction", 0.875),
        said.get("loss", "softmax"),
    )
