"""The Mixer weights that have names: what each is, how large it is, and its accuracies.

`list_pretrained` gives them as a table. The names are those that `load` takes.
"""

import fnmatch
import html
from collections.abc import Sequence
from typing import NamedTuple

from mlp_mixer.weights import released
from mlp_mixer.weights.hub import PREFIX

IMAGE_SIZE = 224  # of all but our own


class Pretrained(NamedTuple):
    """One file of weights. Accuracies are top-1 in per cent; None if none is published.

    Attributes:
        name: for `load`: a short name, or the address on the hub.
        variant: such as "B/16"; "nano" is that of configs/cifar10.py.
        parameters: their number, head included.
        bytes: the size of the file; on the hub that of its numbers, to which some kB come.
        image_size: side of the images that it is for, in pixels.
        num_classes: width of its head.
        imagenet: accuracy on ImageNet's validation set.
        real: the same with the labels of ImageNet-ReaL.
        v2: on ImageNet-v2, matched frequency.
        a: on ImageNet-A, the largest of its 200 logits.
        r: on ImageNet-R, the largest of its 200 logits.
        r_of_1000: on ImageNet-R, the largest of all 1,000 logits, which is far harder.
        sketch: on ImageNet-Sketch.
        about: what it was trained on and how.
    """

    name: str
    variant: str
    parameters: int
    bytes: int
    image_size: int
    num_classes: int
    imagenet: float | None
    real: float | None
    v2: float | None
    a: float | None
    r: float | None
    r_of_1000: float | None
    sketch: float | None
    about: str


class PretrainedTable(tuple[Pretrained, ...]):
    """Published weights, one a row. It prints as a table, and is one in a notebook.

    `pandas.DataFrame(table)` works, too.
    """

    HEADING = ("name", "variant", "parameters", "MB", "px", "classes", "ImageNet", "ReaL", "v2",
               "A", "R", "R of 1,000", "Sketch", "about")  # fmt: skip
    TEXTS = ("name", "variant", "about")  # the others are numbers, aligned on the right

    @property
    def names(self) -> list[str]:
        """The names, which `load` takes."""
        return [row.name for row in self]

    def cells(self) -> list[Sequence[str]]:
        """Returns the rows as texts, below a heading."""
        return [self.HEADING, *map(_cells, self)]

    def __repr__(self) -> str:
        rows = self.cells()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if name in self.TEXTS else cell.rjust(width)
                for name, cell, width in zip(self.HEADING, row, widths, strict=True)
            ).rstrip()
            for row in rows
        ]
        return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])

    def _repr_html_(self) -> str:
        def row(cells: Sequence[str], tag: str) -> str:
            sides = ("left" if name in self.TEXTS else "right" for name in self.HEADING)
            styles = (f"text-align: {side}; white-space: nowrap" for side in sides)
            return "".join(
                f'<{tag} style="{style}">{html.escape(cell)}</{tag}>'
                for style, cell in zip(styles, cells, strict=True)
            )

        heading, *rows = self.cells()
        body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in rows)
        return f"<table><thead><tr>{row(heading, 'th')}</tr></thead><tbody>{body}</tbody></table>"


def list_pretrained(pattern: str = "*") -> PretrainedTable:
    """Returns the weights whose names match a pattern, such as `"gsam/*"` or `"*B_16"`.

    They are Google's released files, the Mixers of timm on the Hugging Face hub, and our own that
    come with the package. For each the table has what it is, its size, and its accuracies, whose
    sources are in docs/reference/weights.md.
    """
    rows = [*map(_released, released.RELEASED), *map(_timms, _TIMM), *_INCLUDED]
    return PretrainedTable(row for row in rows if fnmatch.fnmatchcase(row.name, pattern))


class _Accuracies(NamedTuple):
    imagenet: float | None = None
    real: float | None = None
    v2: float | None = None
    a: float | None = None
    r: float | None = None
    r_of_1000: float | None = None
    sketch: float | None = None


# With a head of 1,000 classes; parameter counts for other heads follow from the width.
_PARAMETERS = {
    "S/32": 19_104_624, "S/16": 18_528_264, "S/8": 20_646_504, "B/32": 60_293_428,
    "B/16": 59_880_472, "L/16": 208_196_168,
}  # fmt: skip
_WIDTHS = {"S": 512, "B": 768, "L": 1024}

# Sources. P: the paper, Table 3. G: the paper on GSAM (arXiv 2203.08065), Table 1, of which the
# columns SAM and GSAM are these files; its R is most likely that of all 1,000 classes, as ResNet-50
# has 22.2 there and about 36 elsewhere. T: timm's evaluations of its own weights, which for the two
# goog_in21k_ft_in1k are those of imagenet1k/: results-*.csv at aa4b585, with 200 classes for A, R.
_RELEASED = {
    # ImageNet and ReaL: P. The others: T.
    "imagenet1k/Mixer-B_16": _Accuracies(76.44, 82.36, 63.22, 8.40, 34.32, None, 25.15),
    "imagenet1k/Mixer-L_16": _Accuracies(71.76, 77.08, 56.21, 5.91, 26.80, None, 20.18),
    # G, SAM.
    "sam/Mixer-B_16": _Accuracies(77.4, 83.5, 63.9, r_of_1000=24.7),
    "sam/Mixer-B_32": _Accuracies(72.4, 79.0, 58.0, r_of_1000=22.8),
    # G, GSAM.
    "gsam/Mixer-B_16": _Accuracies(77.8, 84.0, 64.9, r_of_1000=28.3),
    "gsam/Mixer-B_32": _Accuracies(73.6, 80.2, 59.9, r_of_1000=27.9),
    "gsam/Mixer-S_16": _Accuracies(75.0, 81.7, 61.9, r_of_1000=23.7),
    "gsam/Mixer-S_32": _Accuracies(68.6, 75.8, 55.0, r_of_1000=22.6),
    "gsam/Mixer-S_8": _Accuracies(76.8, 83.4, 64.0, r_of_1000=24.6),
}
_ABOUT = {
    "imagenet1k": "ImageNet-1k",
    "imagenet21k": "ImageNet-21k",
    "sam": "ImageNet-1k, with SAM",
    "gsam": "ImageNet-1k, with GSAM",
}
# P: accuracy on ImageNet once fine-tuned on it at 224 pixels; these weights were not released.
_FINE_TUNED = {"B/16": 80.64, "L/16": 82.89}

# timm's names of the models that it has weights of: variant, classes, accuracies (T), and what they
# are. A tag that says otherwise is wrong: see `hub`.
_MISLABELLED = "ImageNet-1k alone, whatever its tag says: imagenet1k/Mixer-{}"
_TIMM = {
    "mixer_b16_224.goog_in21k_ft_in1k": (
        "B/16", 1000, _Accuracies(76.616, 82.012, 63.22, 8.40, 34.32, None, 25.15),
        _MISLABELLED.format("B_16"),
    ),
    "mixer_l16_224.goog_in21k_ft_in1k": (
        "L/16", 1000, _Accuracies(72.084, 77.306, 56.21, 5.91, 26.80, None, 20.18),
        _MISLABELLED.format("L_16"),
    ),
    "mixer_b16_224.goog_in21k": ("B/16", 21_843, _Accuracies(), "imagenet21k/Mixer-B_16"),
    "mixer_l16_224.goog_in21k": ("L/16", 21_843, _Accuracies(), "imagenet21k/Mixer-L_16"),
    "mixer_b16_224.miil_in21k": ("B/16", 11_221, _Accuracies(), "ImageNet-21k-P, by Alibaba MIIL"),
    "mixer_b16_224.miil_in21k_ft_in1k": (
        "B/16", 1000, _Accuracies(82.314, 87.230, 71.20, 18.55, 47.85, None, 36.25),
        "ImageNet-21k-P, then ImageNet-1k, by Alibaba MIIL",
    ),
}  # fmt: skip

_INCLUDED = (
    Pretrained(
        "cifar10/Mixer-nano", "nano", 1_132_170, 2_295_641, 32, 10, *_Accuracies(),
        "CIFAR-10, 89.62 % of its test images; trained here, comes with the package",
    ),
)  # fmt: skip


def _released(name: str) -> Pretrained:
    what, folder = released.RELEASED[name], name.partition("/")[0]
    about = _ABOUT[folder]
    if folder == "imagenet21k":
        about += f"; {_FINE_TUNED[what.variant]} on ImageNet once fine-tuned"
    return Pretrained(
        name,
        what.variant,
        _parameters(what.variant, what.num_classes),
        what.size,
        IMAGE_SIZE,
        what.num_classes,
        *_RELEASED.get(name, _Accuracies()),
        about,
    )


def _timms(name: str) -> Pretrained:
    variant, num_classes, accuracies, about = _TIMM[name]
    count = _parameters(variant, num_classes)
    return Pretrained(
        f"{PREFIX}//timm/{name}", variant, count, 4 * count, IMAGE_SIZE, num_classes, *accuracies,
        about,
    )  # fmt: skip


def _parameters(variant: str, num_classes: int) -> int:
    return _PARAMETERS[variant] + (num_classes - 1000) * (_WIDTHS[variant[0]] + 1)


def _cells(row: Pretrained) -> Sequence[str]:
    accuracies = [
        "-" if x is None else f"{x:.1f}" if round(x, 1) == x else f"{x:.2f}" for x in row[6:13]
    ]
    return (row.name, row.variant, f"{row.parameters:,}", f"{row.bytes / 1e6:,.0f}",
            str(row.image_size), f"{row.num_classes:,}", *accuracies, row.about)  # fmt: skip
