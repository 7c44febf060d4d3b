"""The 19 tasks of VTAB-1k (Zhai et al. 2019, arXiv 1910.04867): data sets, labels and splits.

Open one as `vtab:TASK`. Each task has 800 examples for training and 200 for choosing
hyperparameters, which are then added to the training set; the test split is used in full. Splits
and labels follow the authors' code (github.com/google-research/task_adaptation): the 200 are taken
from the official validation split. Where there is none, the code makes one that begins after 90 %
of the training images in most data sets, 80 % in Pets and dSprites, and 60 % in EuroSAT and
Resisc45.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

TRAIN = "train[:800]"


class Task(NamedTuple):
    """One task.

    Attributes:
        dataset: the data set's name in TFDS.
        dev: the split of 200 examples for choosing hyperparameters; TRAIN and it make up the 1,000.
        test: the split to report on.
        feature: the feature of an example that the label is computed from.
        label: computes the label from that feature; None if the feature is the label.
        num_classes: number of labels; 0 if TFDS knows it.
        scale: factor of the pixel values; 255 for dSprites, whose pixels are 0 and 1.
        small: whether images are smaller than 96 x 96; the paper fine-tunes these at 224 pixels,
            others at 448.
    """

    dataset: str
    dev: str
    test: str = "test"
    feature: str = "label"
    label: Callable[[Any], int] | None = None
    num_classes: int = 0
    scale: int = 1
    small: bool = False


AS_IT_IS = Task("", "")  # no task of VTAB: the data set's own labels


def clevr_count(objects: dict[str, Sequence]) -> int:
    """Returns the class for the number of objects: 0 to 7 for 3 to 10 of them."""
    return len(objects["size"]) - 3


def clevr_distance(objects: dict[str, Sequence]) -> int:
    """Returns the class of the distance to the nearest object, 0 to 5."""
    nearest = min(position[2] for position in objects["pixel_coords"])
    return int(np.searchsorted([0.0, 8.0, 8.5, 9.0, 9.5, 10.0], nearest)) - 1


def kitti_distance(objects: dict[str, Sequence]) -> int:
    """Returns the class of the distance to the nearest car, van or truck, 0 to 2; 3 for none."""
    things = zip(objects["type"], objects["location"], strict=True)
    nearest = min([*(location[2] for kind, location in things if kind < 3), 1000.0])
    return int(np.searchsorted([-100.0, 8.0, 20.0, 999.0], nearest)) - 1


def dsprites_location(x: int) -> int:
    """Returns the class, 0 to 15, of one of 32 horizontal positions."""
    return int(x) // 2


def dsprites_orientation(orientation: int) -> int:
    """Returns the class, 0 to 15, of one of 40 orientations."""
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
    """Returns the task of this name.

    Raises:
        ValueError: there is no such task.
    """
    if name not in TASKS:
        raise ValueError(f"unknown VTAB task {name!r}; use one of {', '.join(TASKS)}")
    return TASKS[name]
