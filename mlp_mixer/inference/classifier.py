"""A model with everything that is needed to classify images with it."""

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from mlp_mixer.data import images
from mlp_mixer.data.examples import Broken, Example
from mlp_mixer.data.images import BrokenImage, Crop
from mlp_mixer.data.workers import fill_batches
from mlp_mixer.evaluation.compute import compute, forward
from mlp_mixer.models import mixer
from mlp_mixer.models.dtypes import Dtype, compute_dtype
from mlp_mixer.models.losses import Loss, to_probabilities
from mlp_mixer.runs.folder import read_config, workdir_of
from mlp_mixer.runtime import mesh as meshes
from mlp_mixer.runtime.devices import has_fast_bfloat16
from mlp_mixer.runtime.storage import in_words
from mlp_mixer.weights.load import read
from mlp_mixer.weights.resize import Resize

BATCHES = {"cpu": 16}  # images at a time on each device, by platform
BATCH = 128  # on other platforms

ImageLike = str | Path | Image.Image | np.ndarray | jax.Array


class Guess(NamedTuple):
    """A class that an image may have, and its probability."""

    name: str
    probability: float


class Prediction(NamedTuple):
    """What a model makes of one image.

    Attributes:
        image: the image as it was given, for instance its path.
        view: uint8 [h, w, channels], the image as the model sees it.
        probabilities: float32 [classes].
    """

    image: ImageLike
    view: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True)
class Classifier:
    """A model, its parameters, what its outputs mean and how its inputs are cropped.

    From the first image on, the devices of this process keep the parameters, too.

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
        return self._read_view(image)

    @property
    def _read_view(self) -> Callable[[ImageLike], np.ndarray]:
        """Does what `view` does, without the parameters, so that it can be sent to processes."""
        return partial(
            _view, self.module.image_channels, self.module.image_size, self.crop, self.crop_fraction
        )

    def probabilities(self, images: ImageLike | Iterable[ImageLike]) -> np.ndarray:
        """Computes the probability of each class for each image.

        Args:
            images: one image or several, each a path, an address, a PIL image, or an array uint8
                [h, w] or [h, w, c] of any size, NumPy's or another library's. An array uint8
                [n, h, w, c] is n images.

        Returns:
            float32 [n, classes]; n is 1 for one image.

        Raises:
            BrokenImage: a file is not an image; names it.
            OSError: a file cannot be read.
        """
        rows = [prediction.probabilities for prediction in self.stream(images)]
        return np.stack(rows) if rows else np.zeros((0, self.module.num_classes), np.float32)

    def classify(self, images: ImageLike | Iterable[ImageLike], top: int = 5) -> list[list[Guess]]:
        """Returns the `top` most likely classes of each image; `images` as for `probabilities`."""
        return [self.guesses(one.probabilities, top) for one in self.stream(images)]

    def stream(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        workers: int = 0,
        on_error: Callable[[str], None] | None = None,
    ) -> Iterator[Prediction]:
        """Yields the prediction for each image, in order, as they are computed.

        All devices of this process compute while the next images are read. Memory does not grow
        with the number of images.

        Args:
            images: as for `probabilities`.
            workers: processes that read images; 0 for threads, enough for a few CPUs.
            on_error: is called with a message for each image that cannot be read, which is left
                out; by default its error is raised.

        Raises:
            BrokenImage, OSError: as for `probabilities`, without `on_error`.
        """
        given = iter(_each(images))
        mesh = meshes.make_mesh(jax.local_devices())
        most = BATCHES.get(mesh.devices.flat[0].platform, BATCH) * mesh.size
        first = list(itertools.islice(given, most))
        if not first:
            return
        waiting = collections.deque([first])  # batches that are being read

        def positions() -> Iterator[list[ImageLike]]:
            yield first
            while some := list(itertools.islice(given, len(first))):
                waiting.append(some)
                yield some

        def tell(messages: Sequence[str]) -> None:
            for message in messages:
                if on_error:
                    on_error(message)

        load = partial(_read, self._read_view, on_error is not None)
        rows = meshes.divisible(len(first), mesh)
        like = Example(np.empty((*self.module.image_size, self.module.image_channels)), 0)
        batches = fill_batches(load, positions(), rows, like, workers=workers, tell=tell)
        for batch, probabilities in compute(self._apply, self._placed, batches, mesh):
            # Without padding, which is at the end.
            for image, view, row, good in zip(
                waiting.popleft(), batch["image"], probabilities, batch["mask"], strict=False
            ):
                if good:
                    yield Prediction(image, view, row)

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
        return np.asarray(self._apply(self._placed, {"image": views}))

    @cached_property
    def _placed(self) -> Any:
        """The parameters on all devices of this process, where they stay for the next images."""
        mesh = meshes.make_mesh(jax.local_devices())
        return jax.device_put(mixer.rounded(self.module, self.params), meshes.everywhere(mesh))

    @cached_property
    def _apply(self) -> Any:
        mesh = meshes.make_mesh(jax.local_devices())

        def apply(params: Any, batch: dict[str, jax.Array]) -> jax.Array:
            return to_probabilities(forward(self.module, params, batch["image"], mesh), self.loss)

        return jax.jit(apply)


def _each(images: ImageLike | Iterable[ImageLike]) -> Iterable[ImageLike]:
    if isinstance(images, str | Path | Image.Image):
        return [images]
    # An array of any library. One of a single axis is a column, such as paths in a table.
    if hasattr(images, "__array__") and getattr(images, "ndim", 1) != 1:
        array = np.asarray(images)
        return [array] if array.ndim < 4 else array
    return images


def _view(
    channels: int, size: tuple[int, int], crop: Crop, fraction: float, image: ImageLike
) -> np.ndarray:
    return images.eval_view(images.read_image(image, channels), size, crop, fraction)


def _read(view: Callable[[ImageLike], np.ndarray], tell: bool, image: ImageLike) -> Any:
    """Reads the view of an image; if `tell`, returns what is wrong with it instead of raising."""
    try:
        return Example(view(image), 0)
    except (BrokenImage, OSError) as error:
        if not tell:
            raise
        return Broken((in_words(error),))


def load_classifier(
    source: str | PathLike,
    *,
    image_size: int | tuple[int, int] | None = None,
    patch_size: int | tuple[int, int] | None = None,
    resize: Resize = "auto",
    dtype: Dtype = "auto",
) -> Classifier:
    """Reads weights of a model, with what they or their run say about their use.

    If nothing says how to crop images or which loss was used, the released files' defaults apply:
    the middle 7/8 of the image, and a softmax.

    Args:
        source: weights of any source that `mlp_mixer.load` reads.
        image_size: the model's, if another than the weights'; see `mlp_mixer.load`.
        patch_size: likewise.
        resize: how weights are adapted to other sizes, "auto", "tile" or "resample".
        dtype: as for `computing_in`.

    Raises:
        FileNotFoundError: there is no such file or run.
        ValueError: there are no weights of a model, or the model has no head.
    """
    source = fspath(source)
    module, params, said = read(source, image_size=image_size, patch_size=patch_size, resize=resize)
    if not module.num_classes:
        raise ValueError(f"{source} has no head, so it cannot classify images")
    return Classifier(
        computing_in(module, dtype, source),
        params,
        said.get("class_names"),
        said.get("crop", "resmall"),
        said.get("crop_fraction", 0.875),
        said.get("loss", "softmax"),
    )


def computing_in(module: Any, dtype: Dtype, source: str | PathLike) -> Any:
    """Returns a model that computes in another number type.

    Args:
        module: the model.
        dtype: "float32", "bfloat16", or "auto": what the config of the weights' run says; if that
            is "auto", too, or there is no run, for a Mixer the one in which JAX's first device is
            faster, and for other models the one that they have.
        source: where its weights come from.

    Raises:
        ValueError: the number type is unknown.
    """
    if dtype == "auto" and (workdir := workdir_of(source)):
        dtype = read_config(workdir).get("dtype", "auto")
    if dtype == "auto" and not isinstance(module, mixer.MlpMixer):
        return module
    device = jax.local_devices()[0]
    return module.clone(dtype=compute_dtype(dtype, has_fast_bfloat16(device)))
