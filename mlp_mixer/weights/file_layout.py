"""What a layout of weight files is: the names and axes that it gives to a Mixer's parameters."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class FileLayout:
    """The names and axes of a Mixer's parameters in one kind of file.

    Attributes:
        name: what the layout is called, such as "timm".
        prefix: begins names in files of this layout and of no other; "" if nothing does.
        published_names: maps the names in a file to the published ones. All names are given at
            once; one that a Mixer does not have maps to itself.
        file_name: maps a published name to the name in a file.
        arrange: (published name, array in a file) -> a view with the published axes.
        rearrange: (published name, published array) -> a view with the axes of a file.
    """

    name: str
    prefix: str
    published_names: Callable[[Iterable[str]], dict[str, str]]
    file_name: Callable[[str], str]
    arrange: Callable[[str, np.ndarray], np.ndarray]
    rearrange: Callable[[str, np.ndarray], np.ndarray]


# The published files, whose names and axes are those of the module itself.
LINEN = FileLayout(
    name="linen",
    prefix="",
    published_names=lambda names: {name: name for name in names},
    file_name=lambda published: published,
    arrange=lambda published, array: array,
    rearrange=lambda published, array: array,
)
