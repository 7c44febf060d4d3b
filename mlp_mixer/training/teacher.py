"""The teacher of a run: a trained classifier whose answers are learnt in place of labels.

As in arXiv 2106.05237, which asks for patience (many epochs) and consistency: teacher and student
see the same pixels, after crop, flip, and mixup or CutMix, and the loss is KL(teacher || student)
of the softmax of both logits, at temperature 1. Labels only tell the accuracy in training.

The teacher's parameters are an argument of the training step and no part of its state, so nothing
trains or saves them. Its forward pass is that of an evaluation, without dropout, in the number type
that the student computes in, and lies outside of what is differentiated.
"""

import hashlib
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from mlp_mixer.models import mixer
from mlp_mixer.models.class_names import match
from mlp_mixer.models.dtypes import compute_dtype
from mlp_mixer.runtime.devices import has_fast_bfloat16
from mlp_mixer.weights.files import open_weights
from mlp_mixer.weights.load import read, recognise
from mlp_mixer.weights.pretrained import list_pretrained

log = logging.getLogger(__name__)


class Teacher(NamedTuple):
    """A classifier with the classes of a run's data, in their order.

    Attributes:
        source: where it was read from.
        module: the model. Like every model here it takes pixels in [-1, 1]; see `weights.load`.
        params: its parameters, a nested dict of float32 NumPy arrays.
        sha256: the digest of these, with their names.
    """

    source: str
    module: Any
    params: Any
    sha256: str


def load_teacher(config: ml_collections.ConfigDict, class_names: Sequence[str]) -> Teacher | None:
    """Reads the teacher of a config; None if it has none.

    If its classes are known and those of the data, its outputs are put in the order of the data's.

    Args:
        config: the config of a run.
        class_names: the classes of its data.

    Raises:
        FileNotFoundError, OSError: as for `weights.load.load`.
        ValueError: likewise, or the teacher has no head, or is for other classes; says which.
    """
    if not config.teacher:
        return None
    where = f"teacher={config.teacher}"
    try:
        module, params, said = read(config.teacher)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{where}: {error}") from None
    if not module.num_classes:
        raise ValueError(f"{where} has no head; a teacher must classify the data's classes")
    have = said.get("class_names", module.num_classes)
    try:
        order = match(have, class_names, where, config.data.source)
    except ValueError as error:
        raise ValueError(
            f"{error}. A teacher must have the classes of the data: fine-tune it on them first"
        ) from None
    if order is not None:
        params = params | {"head": {name: x[..., order] for name, x in params["head"].items()}}
    log.info("teacher: %s", config.teacher)
    return Teacher(config.teacher, module, params, _sha256(params))


def module_of(source: str) -> Any:
    """Returns the model that weights fit, for a plan: those that are published are not downloaded.

    Without the permutation of its pixels, if it has one.

    Args:
        source: one that `weights.load.load` reads.
    """
    for row in list_pretrained():
        if row.name == source:
            return mixer.create(row.variant, num_classes=row.num_classes, image_size=row.image_size)
    with open_weights(source) as opened:
        return recognise(opened).module


def prepare(
    config: ml_collections.ConfigDict, module: Any, num_classes: int, device: jax.Device
) -> Any:
    """Returns a teacher's model as the step needs it; None where the config has no teacher.

    Args:
        config: the config of a run.
        module: the teacher's model, of `load_teacher` or `module_of`.
        num_classes: the number of classes of the data.
        device: a device to compute on, which decides dtype="auto".

    Raises:
        ValueError: fields of the config do not fit a teacher, or this one.
    """
    if not config.teacher:
        return None
    where = f"teacher={config.teacher}"
    if module is None:
        raise ValueError(
            f"{where} needs a model: give that of load_teacher(...) as teacher_module, or set "
            "teacher to ''"
        )
    if config.loss != "softmax" or config.label_smoothing:
        raise ValueError(
            f"{where} takes the place of labels, and its softmax is what is learnt, but the config "
            f"has loss={config.loss} and label_smoothing={config.label_smoothing:g}; set "
            "--config.loss=softmax --config.label_smoothing=0"
        )
    sees, shown = (
        "{}x{} pixels of {} channel(s)".format(*size, channels)
        for size, channels in (
            (module.image_size, module.image_channels),
            (config.image_size, config.image_channels),
        )
    )
    if sees != shown:
        raise ValueError(
            f"{where} takes {sees}, but image_size and image_channels are {shown}: teacher and "
            "student see the same crop. Change these fields, or take a teacher of this size "
            "(mlp-mixer convert gives a Mixer another one)"
        )
    if module.num_classes != num_classes:
        raise ValueError(
            f"{where} tells {module.num_classes} classes apart, the data has {num_classes}"
        )
    return module.clone(dtype=compute_dtype(config.dtype, has_fast_bfloat16(device)))


def _sha256(params: Any) -> str:
    digest = hashlib.sha256()
    for path, array in jax.tree_util.tree_leaves_with_path(params):
        digest.update(jax.tree_util.keystr(path, simple=True, separator="/").encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
