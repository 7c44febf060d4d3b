"""Data sets of corrupted images, such as ImageNet-C: one for each corruption and severity.

folder:PATH     PATH/CORRUPTION/SEVERITY/CLASS/image.jpg, as the authors' files are unpacked
tfds:NAME       TFDS's imagenet2012_corrupted or cifar10_corrupted, as far as it is prepared
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mlp_mixer.data import prepared_files
from mlp_mixer.data.bucket_copy import on_disk
from mlp_mixer.data.class_files import CLASS_FILES, read_classes
from mlp_mixer.data.folders import FolderClasses
from mlp_mixer.data.listing import class_folders, some

# The 15 over which ImageNet-C's numbers are means, in their authors' order, and four more.
COUNTED = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur",
    "zoom_blur", "snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate",
    "jpeg_compression",
)  # fmt: skip
EXTRA = ("gaussian_blur", "saturate", "spatter", "speckle_noise")
SEVERITIES = (1, 2, 3, 4, 5)
IMAGENET_C = "tfds:imagenet2012_corrupted"
IMAGES_OF_C = 50_000  # of each corruption at each severity
HOW_TO_GET_C = (
    "mlp-mixer prepare imagenet2012_corrupted/fog_3, and so on for each of 19 corruptions and 5 "
    "severities, from ILSVRC2012_img_val.tar; or unpack the tar files of "
    "zenodo.org/records/2235448 in one folder, and add --sets C=folder:PATH, with "
    "PATH/CORRUPTION/SEVERITY/WNID/*.JPEG"
)
# Other names that some have in TFDS's cifar10_corrupted.
_IN_TFDS = {"glass_blur": "frosted_glass_blur", "elastic_transform": "elastic"}


class CorruptedSet(NamedTuple):
    """Where the images of one corruption at one severity are."""

    corruption: str
    severity: int
    source: str  # for `robustness_sets.open_classes`, as is the split
    split: str


def find(spec: str) -> list[CorruptedSet]:
    """Finds the data sets of all corruptions and severities that there are.

    They are in the order of COUNTED and EXTRA; then come others, alphabetically.

    Args:
        spec: folder:PATH or tfds:NAME.

    Raises:
        ValueError: there are none; says what is needed.
        FileNotFoundError: the folder does not exist.
    """
    kind, _, argument = spec.partition(":")
    if kind not in ("folder", "tfds") or not argument:
        raise ValueError(f"corrupted images are at folder:PATH or tfds:NAME, not at {spec!r}")
    found = _in_folder(on_disk(argument)) if kind == "folder" else _in_tfds(argument)
    if not found:
        if kind == "tfds":
            raise ValueError(f"{spec}: no corruption of it is in {prepared_files.data_dir()}")
        has = some(sorted(os.listdir(on_disk(argument)))) or "nothing"
        raise ValueError(
            f"no corruptions in {spec}; it needs PATH/CORRUPTION/SEVERITY/CLASS/image.jpg, with "
            f"SEVERITY from 1 to 5. PATH has: {has}"
        )
    order = {name: i for i, name in enumerate(COUNTED + EXTRA)}
    return sorted(found, key=lambda one: (order.get(one.corruption, len(order)), one[:2]))


def folder_classes(spec: str, names: Sequence[str] | None, names_are: str) -> FolderClasses:
    """Returns the classes of a folder of corruptions.

    They are those of its class file; else `names`, which are those of `names_are`; if these are
    unknown, too, the class folders of the first corruption.
    """
    root = on_disk(spec.partition(":")[2])
    for name in CLASS_FILES:
        if (root / name).is_file():
            return FolderClasses(*read_classes(root / name), str(root / name))
    if names:
        return FolderClasses(tuple(names), tuple(names), names_are)
    first = Path(find(spec)[0].source.partition(":")[2])
    folders = tuple(class_folders(first)[0])
    return FolderClasses(folders, folders, str(first))


def _in_folder(root: Path) -> list[CorruptedSet]:
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}; a data source folder:PATH needs it")
    return [
        CorruptedSet(folder.name, severity, f"folder:{folder / str(severity)}", "")
        for folder in root.iterdir()
        for severity in SEVERITIES
        if (folder / str(severity)).is_dir()
    ]


def _in_tfds(name: str) -> list[CorruptedSet]:
    found = []
    for corruption in COUNTED + EXTRA:
        for severity in SEVERITIES:
            for written in (corruption, _IN_TFDS.get(corruption, corruption)):
                config = f"{name}/{written}_{severity}"
                builder = prepared_files.find(config, prepared_files.data_dir())
                if builder is not None and prepared_files.is_array_record(builder):
                    split = "validation" if "validation" in builder.info.splits else "test"
                    found.append(CorruptedSet(corruption, severity, f"tfds:{config}", split))
                    break
    return found
