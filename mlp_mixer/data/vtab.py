"""The 19 tasks of VTAB-1k (Zhai et al. 2019, arXiv 1910.04867): data sets, labels and splits.

Open one as `vtab:TASK`. Each has 800 examples to train on and 200 to choose hyperparameters by,
which are then trained on as well; the test split is whole. Numbers and labels are those of the
authors' code (github.com/google-research/task_adaptation), which cuts the 200 out of the official
validation split, or from where it makes one: after 90 % of the training images in most data sets
without it, 80 % in Pets and dSprites, 60 % in EuroSAT and Resisc45.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

TRAIN = "train[:800]"


class Task(NamedTuple):
    """One task.

    Attributes:
        dataset: its name in TFDS.
        dev: the split of 200 examples to choose by; with TRAIN it makes the 1,000.
        test: the split to report on.
        feature: of an example, that the label is made from.
        label: makes the label of it; None where it is the label.
        num_classes: how many labels there are; 0 where TFDS knows.
        scale: what pixels are multiplied by; dSprites has 0 and 1.
        small: whether images are smaller than 96 x 96, which the paper fine-tunes at 224 pixels
            (others at 448).
    """

    dataset: str
    dev: str
    test: str = "test"
    feature: str = "label"
    label: Callable[[Any], int] | None = None
    num_classes: int = 0
    scale: int = 1
    small: bool = False


AS_IT_IS = Task("", "")  # the labels that a data set has itself


def clevr_count(objects: dict[str, Sequence]) -> int:
    """Objects in the picture, 3 to 10."""
    return len(objects["size"]) - 3


def clevr_distance(objects: dict[str, Sequence]) -> int:
    """How far the nearest object is, in six steps."""
    nearest = min(position[2] for position in objects["pixel_coords"])
    return int(np.searchsorted([0.0, 8.0, 8.5, 9.0, 9.5, 10.0], nearest)) - 1


def kitti_distance(objects: dict[str, Sequence]) -> int:
    """How far the nearest car, van or truck is, in three steps, and 3 for none."""
    things = zip(objects["type"], objects["location"], strict=True)
    nearest = min([*(location[2] for kind, location in things if kind < 3), 1000.0])
    return int(np.searchsorted([-100.0, 8.0, 20.0, 999.0], nearest)) - 1


def dsprites_location(x: int) -> int:
    """32 horizontal positions in 16 pairs."""
    return int(x) // 2


def dsprites_orientation(orientation: int) -> int:
    """40 orientations in 16 groups."""
    return int(orientation / 2.5)


TASKS = {
    # natural
    "caltech101": Task("caltech101", "train[2754:2954]"),
    "cifar100": Task("cifar100", "train[45000:45200]", small=True),
    "dtd": Task("dtd", "validation[:200]"),
    "flowers102": Task("oxford_flowers102", "validation[:200]"),
    "pets": Task("oxford_iiit_pet", "train[2944:3144]"),
    "svhn": Task("svhn_cropped", "train[65931:66131]", small=True),
    "sun397": Task("sun397/tfds", "validation[:200]"),
    # specialised
    "patch_camelyon": Task("patch_camelyon", "validation[:200]"),
    "eurosat": Task("eurosat/rgb", "train[16200:16400]", "train[21600:]", small=True),
    "resisc45": Task("resisc45", "train[18900:19100]", "train[25200:]"),
    "retinopathy": Task("diabetic_retinopathy_detection/btgraham-300", "validation[:200]"),
    # structured
    "clevr_count": Task(
        "clevr", "train[63000:63200]", "validation", "objects", clevr_count, num_classes=8
    ),
    "clevr_distance": Task(
        "clevr", "train[63000:63200]", "validation", "objects", clevr_distance, num_classes=6
    ),
    "dmlab": Task("dmlab", "validation[:200]"),
    "dsprites_location": Task(
        "dsprites", "train[589824:590024]", "train[663552:]", "label_x_position",
        dsprites_location, num_classes=16, scale=255, small=True,
    ),
    "dsprites_orientation": Task(
        "dsprites", "train[589824:590024]", "train[663552:]", "label_orientation",
        dsprites_orientation, num_classes=16, scale=255, small=True,
    ),
    "kitti_distance": Task(
        "kitti", "validation[:200]", "test", "objects", kitti_distance, num_classes=4
    ),
    "smallnorb_azimuth": Task("smallnorb", "test[:200]", "test[50%:]", "label_azimuth"),
    "smallnorb_elevation": Task("smallnorb", "test[:200]", "test[50%:]", "label_elevation"),
}  # fmt: skip


def task(name: str) -> Task:
    """The task of this name.

    Raises:
        ValueError: there is none.
    """
    if name not in TASKS:
        raise ValueError(f"unknown VTAB task {name!r}; use one of {', '.join(TASKS)}")
    return TASKS[name]
