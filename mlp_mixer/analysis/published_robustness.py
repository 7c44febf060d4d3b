"""Published accuracies of Mixers and their peers on the sets that `analysis.robustness` measures.

All are top-1 in per cent. Sources:

    GSAM    arXiv 2203.08065, Table 1: training on ImageNet-1k with AdamW, SAM and GSAM. Its v2 is
            matched frequency, and its C is the mean accuracy, not mCE. Its R is most likely the
            largest of all 1,000 logits: ResNet-50 has 22.2 there, and about 36 by 200 logits.
    timm    results-*.csv of timm at aa4b585: A and R by 200 logits, with the accuracy on ImageNet's
            validation images of the same 200 classes.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from mlp_mixer.weights.released import RELEASED

SOURCES = {
    "GSAM": "arXiv 2203.08065, Table 1 (R most likely by all 1,000 logits)",
    "timm": "timm's results-*.csv at aa4b585",
}


class Published(NamedTuple):
    """One model's published accuracies.

    Attributes:
        model: such as "Mixer-B/16".
        weights: how it was trained, or which file it is.
        source: a key of SOURCES.
        accuracies: in per cent, by keys of `robustness_table.MEASURES`.
    """

    model: str
    weights: str
    source: str
    accuracies: Mapping[str, float]


_OF_GSAM = ("imagenet", "real", "v2", "r_of_1000", "c")
_OF_TIMM = ("imagenet", "real", "v2", "a", "a_clean", "r", "r_clean", "sketch")
_GSAM = {
    "Mixer-S/32": (
        (63.9, 70.3, 49.5, 16.9, 35.2), (66.7, 73.8, 52.4, 18.6, 39.3),
        (68.6, 75.8, 55.0, 22.6, 44.6),
    ),
    "Mixer-S/16": (
        (68.8, 75.1, 54.8, 15.9, 35.6), (72.9, 79.8, 58.9, 20.1, 42.0),
        (75.0, 81.7, 61.9, 23.7, 48.5),
    ),
    "Mixer-S/8": (
        (70.2, 76.2, 56.1, 15.4, 34.6), (75.9, 82.5, 62.3, 20.5, 42.4),
        (76.8, 83.4, 64.0, 24.6, 47.8),
    ),
    "Mixer-B/32": (
        (62.5, 68.1, 47.6, 14.6, 33.8), (72.4, 79.0, 58.0, 22.8, 46.2),
        (73.6, 80.2, 59.9, 27.9, 52.1),
    ),
    "Mixer-B/16": (
        (66.4, 72.1, 50.8, 14.5, 33.8), (77.4, 83.5, 63.9, 24.7, 48.8),
        (77.8, 84.0, 64.9, 28.3, 54.4),
    ),
    "ViT-B/16": (
        (74.6, 79.8, 61.3, 20.1, 46.6), (79.9, 85.2, 67.5, 26.4, 56.5),
        (81.0, 86.5, 69.2, 27.1, 55.7),
    ),
    "ResNet50": (
        (76.0, 82.4, 63.6, 22.2, 44.6), (76.9, 83.3, 64.4, 23.8, 46.5),
        (77.2, 83.9, 64.6, 23.6, 47.6),
    ),
}  # fmt: skip
_TIMM = {
    ("Mixer-B/16", "imagenet1k"): (76.616, 82.012, 63.22, 8.40, 91.83, 34.32, 91.12, 25.15),
    ("Mixer-L/16", "imagenet1k"): (72.084, 77.306, 56.21, 5.91, 87.15, 26.80, 87.00, 20.18),
    ("Mixer-B/16", "MIIL"): (82.314, 87.230, 71.20, 18.55, 95.36, 47.85, 94.89, 36.25),
}

TABLE = (
    *(
        Published(model, how, "GSAM", dict(zip(_OF_GSAM, row, strict=True)))
        for model, rows in _GSAM.items()
        for how, row in zip(("AdamW", "SAM", "GSAM"), rows, strict=True)
    ),
    *(
        Published(model, weights, "timm", dict(zip(_OF_TIMM, row, strict=True)))
        for (model, weights), row in _TIMM.items()
    ),
)

# Files whose own accuracies these are, by the names that `load` takes.
_FOLDERS = {"sam": "SAM", "gsam": "GSAM", "imagenet1k": "imagenet1k"}
_FILES = {
    name: (f"Mixer-{file.variant}", _FOLDERS[folder])
    for name, file in RELEASED.items()
    if (folder := name.partition("/")[0]) in _FOLDERS
} | {
    "hf://timm/mixer_b16_224.goog_in21k_ft_in1k": ("Mixer-B/16", "imagenet1k"),
    "hf://timm/mixer_l16_224.goog_in21k_ft_in1k": ("Mixer-L/16", "imagenet1k"),
    "hf://timm/mixer_b16_224.miil_in21k_ft_in1k": ("Mixer-B/16", "MIIL"),
}


def of_model(model: str | None) -> list[Published]:
    """Returns the published rows of a model such as "Mixer-B/16"."""
    return [row for row in TABLE if row.model == model]


def sources(rows: Iterable[Published]) -> list[tuple[str, str]]:
    """Returns name and text of each source that some rows are from."""
    used = {row.source for row in rows}
    return [(name, text) for name, text in SOURCES.items() if name in used]


def of_file(name: str) -> Published | None:
    """Returns the published row of weights by the name that `load` takes; None if there is none."""
    found = _FILES.get(name.partition("@")[0])
    return next((row for row in TABLE if (row.model, row.weights) == found), None)
