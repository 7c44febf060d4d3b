"""A checkpoint with all that is needed to use it on images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mlp_mixer.data import images
from mlp_mixer.data.known_classes import imagenet
from mlp_mixer.models.mixer import MlpMixer
from mlp_mixer.training import workdir as run
from mlp_mixer.training.step import normalise
from mlp_mixer.weights.load import load


@dataclass(frozen=True)
class Classifier:
    """A model, its weights, what its outputs mean and how its inputs are cut out.

    Attributes:
        module: the model.
        params: its parameters.
        class_names: one for each output.
        crop, crop_fraction: see `data.images.eval_view`.
        loss: that it was trained with; "sigmoid" makes each class a probability of its own.
    """

    module: MlpMixer
    params: dict[str, Any]
    class_names: tuple[str, ...]
    crop: str
    crop_fraction: float
    loss: str

    def prepare(self, path: str | Path) -> np.ndarray:
        """An image file as the model sees it, uint8 [h, w, channels]; see `images.decode_file`."""
        image = images.decode_file(Path(path), self.module.image_channels)
        return images.eval_view(image, self.module.image_size, self.crop, self.crop_fraction)

    def probabilities(self, batch: np.ndarray) -> np.ndarray:
        """Images uint8 [n, h, w, channels] to probabilities [n, classes]."""
        logits = jax.jit(self.module.apply)({"params": self.params}, normalise(batch))
        return np.asarray(to_probabilities(logits, self.loss))


def to_probabilities(logits: jax.Array, loss: str) -> jax.Array:
    """Logits [n, k] to probabilities, as the loss that they were trained with means them."""
    return jax.nn.sigmoid(logits) if loss == "sigmoid" else jax.nn.softmax(logits)


def load_classifier(
    checkpoint: str | Path,
    image_size: int | tuple[int, int] | None = None,
    patch_size: int | tuple[int, int] | None = None,
    resize: str = "auto",
) -> Classifier:
    """Reads a run's workdir (or the model.npz in it), or any other weights that `load` reads.

    Sizes and `resize` mean what they mean to `load`. What a file cannot say is taken to be as for
    the released files: the middle 7/8 of the image is seen, and 1,000 classes are those of
    ImageNet.

    Raises:
        FileNotFoundError: no such file or run.
        ValueError: not a Mixer, or one without a head.
    """
    workdir = run.of(checkpoint)
    module, params = load(
        workdir or checkpoint, image_size=image_size, patch_size=patch_size, resize=resize
    )
    if not module.num_classes:
        raise ValueError(f"{checkpoint} has no head, so it cannot tell classes")
    if workdir:
        config = run.read_config(workdir)
        if config.get("permuted"):
            raise ValueError(
                f"{checkpoint} was trained on permuted pixels, which only its own run evaluates"
            )
        view = config["eval_crop"], config["eval_crop_fraction"]
        return Classifier(module, params, run.read_classes(workdir), *view, config["loss"])
    names = default_class_names(module.num_classes)
    return Classifier(module, params, names, "resmall", 0.875, "softmax")


def default_class_names(num_classes: int) -> tuple[str, ...]:
    """ImageNet's names for 1,000 classes, numbers for any other count."""
    if num_classes == 1000:
        return imagenet().names
    return tuple(f"class {i}" for i in range(num_classes))
