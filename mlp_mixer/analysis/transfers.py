"""Finished sweeps as one table, with the means that the paper reports: Avg 5 and VTAB-1k.

"Avg 5" is the mean over ImageNet, CIFAR-10, CIFAR-100, Pets and Flowers, "VTAB-1k" the mean over
its 19 tasks. Several sweeps on one data set count with their mean. A mean over data sets is only
given if all of them are present.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mlp_mixer.data import vtab
from mlp_mixer.data.paper_sets import AVG_5, SOURCES, name_of, split_name
from mlp_mixer.runtime.storage import as_path
from mlp_mixer.training import sweep

_VTAB = tuple(vtab.TASKS)
MEANS = {
    "Avg 5": tuple(AVG_5),
    "VTAB-1k, natural": _VTAB[:7],
    "VTAB-1k, specialised": _VTAB[7:11],
    "VTAB-1k, structured": _VTAB[11:],
    "VTAB-1k": _VTAB,
}


@dataclass(frozen=True)
class Transfers:
    """The results of sweeps.

    Attributes:
        rates: data set -> learning rate that each of its sweeps chose.
        accuracies: data set -> test accuracy of each of its sweeps, in per cent.
        unfinished: workdirs without a result.
    """

    rates: dict[str, list[float]]
    accuracies: dict[str, list[float]]
    unfinished: list[str]

    def summary(self) -> list[tuple[str, ...]]:
        """Returns a table with a heading, and one row per data set and mean."""
        rows: list[tuple[str, ...]] = [("data set", "learning rate", "accuracy", "deviation")]
        for name in filter(self.accuracies.get, SOURCES):
            found = self.accuracies[name]
            deviation = f"{np.std(found, ddof=1):.2f} of {len(found)}" if len(found) > 1 else ""
            lr = ", ".join(f"{x:g}" for x in self.rates[name])
            rows.append((name, lr, f"{np.mean(found):.2f}", deviation))
        return rows + [(n, "", f"{mean:.2f}", "") for n, mean in means(self.accuracies).items()]


def read_transfers(workdirs: Sequence[str]) -> Transfers:
    """Reads the results of sweeps.

    Args:
        workdirs: WORKDIR each, or NAME=WORKDIR if the data source does not tell which of the
            paper's data sets it is.

    Raises:
        ValueError: the data set of a sweep is not known.
    """
    found = Transfers({}, {}, [])
    for text in workdirs:
        _, path = split_name(text)
        file = as_path(path) / sweep.RESULT_FILE
        if not file.exists():
            found.unfinished.append(path)
            continue
        result = json.loads(file.read_text())
        name = name_of(text, result["source"])
        found.rates.setdefault(name, []).append(result["lr"])
        found.accuracies.setdefault(name, []).append(100 * result["test"]["test/accuracy"])
    return found


def means(accuracies: Mapping[str, list[float]]) -> dict[str, float]:
    """Returns the paper's means over data sets, if all data sets of a mean are present."""
    return {
        name: float(np.mean([np.mean(accuracies[part]) for part in parts]))
        for name, parts in MEANS.items()
        if all(part in accuracies for part in parts)
    }
