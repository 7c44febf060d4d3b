"""How sharp the minimum is that a model was trained to: largest eigenvalues of its loss's Hessian.

SAM is meant to lower them (arXiv 2106.01548, Table 1). They are found by SciPy's restarted Lanczos
method from products of the Hessian with vectors, which cost about two gradients each; the Hessian
itself, of the size of the parameters squared, never exists.
"""

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.sparse import linalg

from mlp_mixer.data import pipeline
from mlp_mixer.data.sources import Subset, open_source
from mlp_mixer.inference.classifier import load_classifier
from mlp_mixer.models import losses
from mlp_mixer.models.class_names import match, relabel
from mlp_mixer.models.pixels import forward
from mlp_mixer.runs.folder import read_config, workdir_of
from mlp_mixer.runtime import mesh as meshes
from mlp_mixer.training import fields
from mlp_mixer.training.recipe import open_data

VECTORS = 20  # at least, that Lanczos keeps: ARPACK's usual number


@dataclass(frozen=True)
class Sharpness:
    """What is known of a loss around a model's parameters.

    Attributes:
        source: the name of the data set.
        examples: the number of images over which the loss is a mean.
        loss: the loss, without regularisation.
        gradient_norm: the norm of its gradient over all parameters; small at a minimum.
        eigenvalues: the largest of its Hessian over all parameters, in falling order.
        products: how often the Hessian was multiplied with a vector.
    """

    source: str
    examples: int
    loss: float
    gradient_norm: float
    eigenvalues: tuple[float, ...]
    products: int


def measure(
    checkpoint: str | PathLike,
    source: str | None = None,
    split: str | None = None,
    *,
    examples: int = 1024,
    top: int = 1,
    tolerance: float = 1e-3,
    batch_size: int = 64,
    seed: int = 0,
) -> Sharpness:
    """Computes the largest eigenvalues of the Hessian of a model's loss on a sample of images.

    The loss is the mean over the sample of the loss that the model was trained with, without
    augmentation, dropout, label smoothing or weight decay; images are cropped as in evaluation.
    Lanczos keeps 20 vectors of the size of the parameters in memory, or more for `top` over 9.

    Args:
        checkpoint: as for `load`.
        source: a data source such as "folder:PATH"; by default the images that the run trained on.
        split: the split of the source; by default the one that the run trained on, or "train".
        examples: size of the sample; the split is taken whole if it has no more.
        top: number of eigenvalues.
        tolerance: relative error of the eigenvalues.
        batch_size: images at a time.
        seed: draws the sample, and the vector that Lanczos starts from.

    Raises:
        ValueError: no source is given and none is known, its classes are not the model's, a number
            is out of range, or the eigenvalues did not converge.
        FileNotFoundError: there are no such weights.
    """
    for name, value in {"examples": examples, "top": top, "batch_size": batch_size}.items():
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1")
    if not tolerance > 0:
        raise ValueError(f"tolerance={tolerance} must be over 0")
    classifier = load_classifier(checkpoint, dtype="float32")
    workdir = workdir_of(checkpoint)
    config = fields.restored(read_config(workdir)) if workdir else None
    if config and source in (None, config.data.source) and split in (None, config.data.train_split):
        opened = open_data(config)  # of a run on some images of each class only these
    elif spec := source or (config and config.data.source):
        opened = open_source(spec, split or "train", classifier.module.image_channels)
    else:
        raise ValueError(
            "give a source (--source): this checkpoint does not say on which data it was trained"
        )
    order = match(
        classifier.class_names or classifier.module.num_classes,
        opened.class_names, fspath(checkpoint), opened.name,
    )  # fmt: skip
    drawn = np.random.RandomState(seed).permutation(len(opened))[:examples]
    mesh = meshes.make_mesh()
    batches = pipeline.eval_batches(
        Subset(opened, drawn),
        classifier.module.image_size,
        batch_size=meshes.divisible(min(batch_size, len(drawn)), mesh),
        crop=classifier.crop,
        crop_fraction=classifier.crop_fraction,
        reading=pipeline.Reading((jax.process_index(), jax.process_count())),
    )
    on_devices = [
        meshes.to_devices(batch | {"label": relabel(batch["label"], order)}, mesh)
        for batch in batches
    ]
    loss_fn = losses.get(classifier.loss)

    def total_loss(params: Any, batch: dict[str, jax.Array]) -> jax.Array:
        logits = forward(classifier.module, params, batch["image"])
        targets = losses.targets(batch["label"], classifier.module.num_classes)
        return (loss_fn(logits, targets) * batch["mask"]).sum()

    # As products of float32 numbers, also on devices that would round them to bfloat16.
    with jax.default_matmul_precision("highest"):
        loss, gradient, product = derivatives(
            total_loss, jax.device_put(classifier.params, meshes.everywhere(mesh)),
            on_devices, len(drawn),
        )  # fmt: skip
        eigenvalues, products = largest_eigenvalues(product, gradient.size, top, tolerance, seed)
    return Sharpness(
        opened.name, len(drawn), loss, float(np.linalg.norm(gradient)), eigenvalues, products
    )


def derivatives(
    total_loss: Callable[[Any, Any], jax.Array], params: Any, batches: list[Any], examples: int
) -> tuple[float, np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Computes a mean loss and its gradient, and makes a function that multiplies by its Hessian.

    Args:
        total_loss: (params, batch) -> the sum of the losses of a batch.
        params: a tree of float32 arrays.
        batches: what the loss is summed over.
        examples: by how much the sums are divided.

    Returns:
        The loss, its gradient float32 [p], and the product, float32 [p] -> [p]: the derivative of
        the gradient in a direction, forward over reverse.
    """
    flat, unravel = ravel_pytree(params)

    def of_flat(flat: jax.Array, batch: Any) -> jax.Array:
        return total_loss(unravel(flat), batch)

    @jax.jit
    def loss_and_gradient(flat: jax.Array, batch: Any) -> tuple[jax.Array, jax.Array]:
        return jax.value_and_grad(of_flat)(flat, batch)

    @jax.jit
    def batch_product(flat: jax.Array, vector: jax.Array, batch: Any) -> jax.Array:
        return jax.jvp(lambda x: jax.grad(of_flat)(x, batch), (flat,), (vector,))[1]

    def product(vector: np.ndarray) -> np.ndarray:
        along = jnp.asarray(vector.reshape(-1), jnp.float32)
        return np.asarray(sum(batch_product(flat, along, batch) for batch in batches)) / examples

    found = [loss_and_gradient(flat, batch) for batch in batches]
    loss = float(sum(x for x, _ in found)) / examples
    return loss, np.asarray(sum(x for _, x in found)) / examples, product


def largest_eigenvalues(
    product: Callable[[np.ndarray], np.ndarray], size: int, top: int, tolerance: float, seed: int
) -> tuple[tuple[float, ...], int]:
    """Computes the largest eigenvalues of a symmetric matrix from its products with vectors.

    Returns:
        The eigenvalues in falling order, and how many products were needed.

    Raises:
        ValueError: they did not converge.
    """
    if top >= size:
        raise ValueError(f"top={top} must be less than the number of parameters, {size}")
    products = 0

    def counted(vector: np.ndarray) -> np.ndarray:
        nonlocal products
        products += 1
        return product(vector)

    operator = linalg.LinearOperator((size, size), matvec=counted, dtype=np.float32)
    start = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    try:
        found = linalg.eigsh(
            operator, top, which="LA", v0=start, tol=tolerance, return_eigenvectors=False,
            ncv=min(size, max(VECTORS, 2 * top + 1)),
        )  # fmt: skip
    except linalg.ArpackNoConvergence as error:
        raise ValueError(
            f"only {len(error.eigenvalues)} of {top} eigenvalues converged in {products} products; "
            f"ask for fewer, or for a larger tolerance than {tolerance}"
        ) from None
    return tuple(sorted(map(float, found), reverse=True)), products
