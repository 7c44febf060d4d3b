"""The sets that measure robustness of ImageNet classifiers: what each is, and opening one.

Labels are those of ImageNet's 1,000 classes, by WordNet id; ImageNet-A and -R have images of 200 of
them each. docs/reference/evaluation.md says how to get the sets.
"""

import logging
from typing import NamedTuple

from mlp_mixer.data import splits
from mlp_mixer.data.bucket_copy import on_disk
from mlp_mixer.data.class_files import alphabetical, counted
from mlp_mixer.data.folders import FolderClasses, FolderSource
from mlp_mixer.data.listing import say_once
from mlp_mixer.data.sources import Source, open_source

# Places of their classes among ImageNet's 1,000, which are sorted by WordNet id. Sources: the
# authors' evaluation scripts (natural-adv-examples and imagenet-r of github.com/hendrycks), with
# which big_vision and timm agree.
CLASSES_OF_A = (
    6, 11, 13, 15, 17, 22, 23, 27, 30, 37, 39, 42, 47, 50, 57, 70, 71, 76, 79, 89, 90, 94, 96,
    97, 99, 105, 107, 108, 110, 113, 124, 125, 130, 132, 143, 144, 150, 151, 207, 234, 235, 254,
    277, 283, 287, 291, 295, 298, 301, 306, 307, 308, 309, 310, 311, 313, 314, 315, 317, 319,
    323, 324, 326, 327, 330, 334, 335, 336, 347, 361, 363, 372, 378, 386, 397, 400, 401, 402,
    404, 407, 411, 416, 417, 420, 425, 428, 430, 437, 438, 445, 456, 457, 461, 462, 470, 472,
    483, 486, 488, 492, 496, 514, 516, 528, 530, 539, 542, 543, 549, 552, 557, 561, 562, 569,
    572, 573, 575, 579, 589, 606, 607, 609, 614, 626, 627, 640, 641, 642, 643, 658, 668, 677,
    682, 684, 687, 701, 704, 719, 736, 746, 749, 752, 758, 763, 765, 768, 773, 774, 776, 779,
    780, 786, 792, 797, 802, 803, 804, 813, 815, 820, 823, 831, 833, 835, 839, 845, 847, 850,
    859, 862, 870, 879, 880, 888, 890, 897, 900, 907, 913, 924, 932, 933, 934, 937, 943, 945,
    947, 951, 954, 956, 957, 959, 971, 972, 980, 981, 984, 986, 987, 988,
)  # fmt: skip
CLASSES_OF_R = (
    1, 2, 4, 6, 8, 9, 11, 13, 22, 23, 26, 29, 31, 39, 47, 63, 71, 76, 79, 84, 90, 94, 96, 97,
    99, 100, 105, 107, 113, 122, 125, 130, 132, 144, 145, 147, 148, 150, 151, 155, 160, 161,
    162, 163, 171, 172, 178, 187, 195, 199, 203, 207, 208, 219, 231, 232, 234, 235, 242, 245,
    247, 250, 251, 254, 259, 260, 263, 265, 267, 269, 276, 277, 281, 288, 289, 291, 292, 293,
    296, 299, 301, 308, 309, 310, 311, 314, 315, 319, 323, 327, 330, 334, 335, 337, 338, 340,
    341, 344, 347, 353, 355, 361, 362, 365, 366, 367, 368, 372, 388, 390, 393, 397, 401, 407,
    413, 414, 425, 428, 430, 435, 437, 441, 447, 448, 457, 462, 463, 469, 470, 471, 472, 476,
    483, 487, 515, 546, 555, 558, 570, 579, 583, 587, 593, 594, 596, 609, 613, 617, 621, 629,
    637, 657, 658, 701, 717, 724, 763, 768, 774, 776, 779, 780, 787, 805, 812, 815, 820, 824,
    833, 847, 852, 866, 875, 883, 889, 895, 907, 928, 931, 932, 933, 934, 936, 937, 943, 945,
    947, 948, 949, 951, 953, 954, 957, 963, 965, 967, 980, 981, 983, 988,
)  # fmt: skip


class RobustnessSet(NamedTuple):
    """A set of images of ImageNet's classes.

    Attributes:
        title: its name in tables.
        source: the data source if TFDS has prepared it.
        images: their number; of ReaL, of those with a label.
        download: its authors' files and where they are; they hold a folder for each class. "" for
            ImageNet itself.
        split: the split of `source`.
        classes: places of its classes among ImageNet's 1,000, if it has not all.
    """

    title: str
    source: str
    images: int
    download: str = ""
    split: str = "test"
    classes: tuple[int, ...] | None = None

    def how_to_get(self, name: str) -> str:
        """Returns, in one line, how to prepare or download the set and where to put it."""
        prepare = f"mlp-mixer prepare {self.source.removeprefix('tfds:')}"
        if not self.download:
            return (
                f"{prepare}; or add --source=folder:PATH, with PATH/val/WNID/*.JPEG and, for ReaL, "
                "PATH/real.json (docs/reference/data.md)"
            )
        return (
            f"{prepare}; or unpack {self.download}, and add --sets {name}=folder:PATH for the "
            "folder with its class folders"
        )


_V2 = "imagenetv2-{}.tar.gz of huggingface.co/datasets/vaishaal/ImageNetV2"
_HENDRYCKS = "people.eecs.berkeley.edu/~hendrycks/imagenet-{}.tar"

IMAGENET, REAL = "ImageNet", "ReaL"
SETS = {
    IMAGENET: RobustnessSet("ImageNet", "tfds:imagenet2012", 50_000, split="validation"),
    REAL: RobustnessSet("ReaL", "tfds:imagenet2012_real", 46_837, split="validation"),
    "v2": RobustnessSet(
        "ImageNet-v2, matched frequency", "tfds:imagenet_v2/matched-frequency", 10_000,
        _V2.format("matched-frequency"),
    ),
    "v2-threshold-0.7": RobustnessSet(
        "ImageNet-v2, threshold 0.7", "tfds:imagenet_v2/threshold-0.7", 10_000,
        _V2.format("threshold0.7"),
    ),
    "v2-topimages": RobustnessSet(
        "ImageNet-v2, top images", "tfds:imagenet_v2/topimages", 10_000, _V2.format("top-images")
    ),
    "A": RobustnessSet(
        "ImageNet-A", "tfds:imagenet_a", 7_500, _HENDRYCKS.format("a"),
        classes=CLASSES_OF_A,
    ),
    "R": RobustnessSet(
        "ImageNet-R", "tfds:imagenet_r", 30_000, _HENDRYCKS.format("r"),
        classes=CLASSES_OF_R,
    ),
    "Sketch": RobustnessSet(
        "ImageNet-Sketch", "tfds:imagenet_sketch", 50_889,
        "the zip that github.com/HaohanWang/ImageNet-Sketch links to",
    ),
}  # fmt: skip


def open_classes(spec: str, split: str, channels: int, classes: FolderClasses) -> Source:
    """Opens one split of a data set whose classes are known to be among some.

    Args:
        spec: a data source, of any kind. Class folders are matched with `classes` by name, or by
            number if they are all of 0 to n - 1, which count the classes in alphabetical order, as
            do the classes of other sources that have only numbers. Class folders may lie in PATH
            itself or in the split's folder, and there need not be one for every class.
        split: a split such as "test".
        channels: 3 for RGB, 1 for grey.
        classes: the classes.

    Raises:
        ValueError: the data is unusable, or has other class folders.
        FileNotFoundError: the folder does not exist.
    """
    kind, _, path = spec.partition(":")
    if kind != "folder":
        source = open_source(spec, split, channels)
        if source.class_names == tuple(map(str, range(len(classes.names)))):
            source.class_names = tuple(classes.names[i] for i in alphabetical(classes.folders))
            say_once(logging.INFO, f"{spec}: {counted(classes.folders)}")
        return source
    where = "val" if split == "real" else split
    has_split = any(
        (on_disk(path) / name).is_dir() for name in (where, *splits.SAME.get(where, ()))
    )
    return FolderSource(path, split if has_split or split == "real" else "", channels, classes)
