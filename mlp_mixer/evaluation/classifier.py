"""A checkpoint with all that is needed to use it on images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mlp_mixer.data import images
from mlp_mixer.training.step import normalise
from mlp_mixer.weights.load import read


@dataclass(frozen=True)
class Classifier:
    """A model, its weights, what its outputs mean and how its inputs are cut out.

    Attributes:
        module: the model; a Mixer, or that of a run.
        params: its parameters.
        class_names: one for each output; None where nobody knows them.
        crop, crop_fraction: see `data.images.eval_view`.
        loss: that it was trained with; "sigmoid" makes each class a probability of its own.
    """

    module: Any
    params: dict[str, Any]
    class_names: tuple[str, ...] | None
    crop: str
    crop_fraction: float
    loss: str

    @property
    def output_names(self) -> tuple[str, ...]:
        """The class names, or "class 0" and so on where they are not known."""
        numbered = tuple(f"class {i}" for i in range(self.module.num_classes))
        return numbered if self.class_names is None else self.class_names

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
    """Reads any weights that `load` reads, with what they or their run say of their use.

    Sizes and `resize` mean what they mean to `load`. Where nothing says how images are cut out and
    which loss it was, these are taken to be as for the released files: the middle 7/8 of the image
    is seen, and outputs are those of a softmax.

    Raises:
        FileNotFoundError: no such file or run.
        ValueError: no weights of a model, or of one without a head.
    """
    module, params, said = read(
        checkpoint, image_size=image_size, patch_size=patch_size, resize=resize
    )
    if not module.num_classes:
        raise ValueError(f"{checkpoint} has no head, so it cannot tell classes")
    return Classifier(
        module,
        params,
        said.get("class_names"),
        said.get("crop", "resmall"),
        said.get("crop_fraction", 0.875),
        said.get("loss", "softmax"),
    )
