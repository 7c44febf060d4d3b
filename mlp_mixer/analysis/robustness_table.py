"""What `analysis.robustness` measures of a model, as numbers and as tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlp_mixer.analysis.published_robustness import Published
from mlp_mixer.data.corruptions import COUNTED, SEVERITIES
from mlp_mixer.data.robustness_sets import SETS
from mlp_mixer.evaluation.corruption_error import Corrupted

MISSING = "–"
# What is measured, in the order of the table, in per cent.
MEASURES = {
    "clean": "clean images",
    "imagenet": "ImageNet",
    "real": "ImageNet, ReaL labels",
    "v2": SETS["v2"].title,
    "v2_threshold": SETS["v2-threshold-0.7"].title,
    "v2_top": SETS["v2-topimages"].title,
    "a": "ImageNet-A, its 200 classes",
    "a_clean": "  ImageNet, the same 200",
    "a_of_1000": "  ImageNet-A, all 1,000",
    "r": "ImageNet-R, its 200 classes",
    "r_clean": "  ImageNet, the same 200",
    "r_of_1000": "  ImageNet-R, all 1,000",
    "sketch": "ImageNet-Sketch",
    "c": "corrupted images (C), mean accuracy",
    "mce": "  mCE, lower is better",
    "relative_mce": "  relative mCE, lower is better",
}


@dataclass(frozen=True)
class Robustness:
    """A model's robustness, beside published figures.

    Attributes:
        measured: in per cent, by keys of MEASURES; what could not be measured is left out.
        corrupted: accuracies by corruption and severity, as shares; None if there are none.
        published: rows of the same model.
        fits: the one of them that is of these very weights, if that is known.
        remarks: how the numbers were measured.
        missing: what could not be measured, and how to get it.
    """

    measured: dict[str, float]
    corrupted: Corrupted | None
    published: list[Published]
    fits: Published | None
    remarks: list[str]
    missing: list[str]

    def rows(self) -> list[tuple[str, ...]]:
        """Returns the table as texts, below a heading: measures, and models beside each other."""
        heads = [
            f"{row.weights} [{row.source}]{' *' if row == self.fits else ''}"
            for row in self.published
        ]
        columns = [self.measured, *(row.accuracies for row in self.published)]
        return [
            ("", "this model", *heads),
            *(
                (title, *(_cell(column.get(key)) for column in columns))
                for key, title in MEASURES.items()
                if any(key in column for column in columns)
            ),
        ]

    def corruption_rows(self) -> list[tuple[str, ...]]:
        """Returns accuracies by corruption and severity as texts, below a heading.

        The last row is the mean of those corruptions that count and have all severities.
        """
        if self.corrupted is None:
            return []
        found = self.corrupted
        means, ce = found.means(), found.ce()
        rows = [("corruption", *map(str, SEVERITIES), "mean", *(["CE"] if ce else []))]

        def row(name: str, of: Mapping[int, float], mean: float | None, *error: float | None):
            shares = (*map(of.get, SEVERITIES), mean, *(error if ce else ()))
            rows.append((name, *(_cell(None if x is None else 100 * x) for x in shares)))

        for name, of in found.accuracy.items():
            counts = name in COUNTED
            row(name if counts else f"{name} (not counted)", of, means.get(name), ce.get(name))
        if whole := [name for name in COUNTED if name in means]:
            by_severity = {
                severity: float(np.mean([found.accuracy[name][severity] for name in whole]))
                for severity in SEVERITIES
            }
            row(
                f"mean of {len(whole)}", by_severity, float(np.mean([means[n] for n in whole])),
                float(np.mean([ce[n] for n in whole])) if ce else None,
            )  # fmt: skip
        return rows

    def as_dict(self) -> dict[str, Any]:
        """Returns everything as numbers and texts, for JSON."""
        found = self.corrupted
        return {
            "measured": self.measured,
            "corruptions": dict(found.accuracy) if found else {},
            "ce": found.ce() if found else {},
            "published": [row._asdict() for row in self.published],
            "fits": self.fits._asdict() if self.fits else None,
            "remarks": self.remarks,
            "missing": self.missing,
        }


def _cell(per_cent: float | None) -> str:
    return MISSING if per_cent is None else f"{per_cent:.2f}"
