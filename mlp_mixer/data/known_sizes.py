"""Numbers of classes and examples of well-known data sets, to plan runs without the data."""

import re
from pathlib import PurePosixPath

from mlp_mixer.data import splits, vtab
from mlp_mixer.data.digits import TASKS

# Classes, and examples of each split, by the data set's name in TFDS. From TFDS's catalogue, unless
# noted otherwise.
DATA_SETS: dict[str, tuple[int, dict[str, int]]] = {
    "imagenet2012": (1000, {"train": 1_281_167, "validation": 50_000}),
    "imagenet2012_real": (1000, {"validation": 50_000}),  # 46,837 of them have a label
    "imagenet_v2": (1000, {"test": 10_000}),
    # image-net.org counts 14,197,122 images of 21,841 synsets; released heads have 21,843 classes.
    "imagenet21k": (21_843, {"train": 14_197_122}),
    # Rounded, from section 3 of the Mixer paper; the data set is not public.
    "jft": (18_000, {"train": 300_000_000}),
    "cifar10": (10, {"train": 50_000, "test": 10_000}),
    "cifar100": (100, {"train": 50_000, "test": 10_000}),
    "oxford_iiit_pet": (37, {"train": 3680, "test": 3669}),
    "oxford_flowers102": (102, {"train": 1020, "validation": 1020, "test": 6149}),
    "caltech101": (102, {"train": 3060, "test": 6084}),
    "dtd": (47, {"train": 1880, "validation": 1880, "test": 1880}),
    "svhn_cropped": (10, {"train": 73_257, "test": 26_032, "extra": 531_131}),
    "sun397": (397, {"train": 76_128, "validation": 10_875, "test": 21_750}),
    "patch_camelyon": (2, {"train": 262_144, "validation": 32_768, "test": 32_768}),
    "eurosat": (10, {"train": 27_000}),
    "resisc45": (45, {"train": 31_500}),
    "diabetic_retinopathy_detection": (
        5, {"train": 35_126, "validation": 10_906, "test": 42_670}
    ),
    "clevr": (8, {"train": 70_000, "validation": 15_000, "test": 15_000}),
    "dmlab": (6, {"train": 65_550, "validation": 22_628, "test": 22_735}),
    "dsprites": (16, {"train": 737_280}),
    "kitti": (4, {"train": 6347, "validation": 423, "test": 711}),
    "smallnorb": (5, {"train": 24_300, "test": 24_300}),
    "digits": (10, {"train": 1437, "test": 360}),
}  # fmt: skip
# VTAB tasks whose number of classes is neither that of their data set nor given in `vtab`.
CLASSES_OF_TASKS = {"smallnorb_azimuth": 18, "smallnorb_elevation": 9}


def classes_and_examples(spec: str, split: str) -> tuple[int, int]:
    """Looks up the number of classes of a data set and of examples in a split.

    Args:
        spec: a data source as in `sources.open_source`. The last part of a folder:PATH is taken as
            its name, so that folder:/data/imagenet21k is known.
        split: such as "train", "train[:99%]" or "train[:800]+train[900:]".

    Returns:
        (number of classes, number of examples).

    Raises:
        ValueError: the data set or split is not in the table.
    """
    name, classes = _name(spec)
    if name not in DATA_SETS:
        raise ValueError(
            f"the numbers of classes and examples of {spec} are not known here: give them. Known "
            f"are {', '.join(DATA_SETS)}"
        )
    default, counts = DATA_SETS[name]
    return classes or default, sum(_examples(spec, counts, part) for part in split.split("+"))


def _name(spec: str) -> tuple[str, int]:
    """Returns the data set's name in the table, and the task's number of classes if it differs."""
    kind, _, argument = spec.partition(":")
    if kind == "vtab":
        task = vtab.task(argument)
        classes = task.num_classes or CLASSES_OF_TASKS.get(argument, 0)
        return re.split("[/:]", task.dataset)[0], classes
    if kind == "digits":
        return "digits", len(TASKS.get(argument, ()))
    if kind == "folder":
        return PurePosixPath(argument).name, 0
    return re.split("[/:#]", argument)[0], 0


def _examples(spec: str, counts: dict[str, int], split: str) -> int:
    part = splits.parse(split)
    if part.split not in counts:
        raise ValueError(
            f"{spec} has no split {split!r} that is known here; it has {', '.join(counts)}, and "
            "parts such as train[:99%]"
        )
    return len(part.of(counts[part.split], spec))
