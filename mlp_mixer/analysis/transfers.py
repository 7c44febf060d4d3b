"""Finished sweeps as one table, with the means that the paper reports: Avg 5 and VTAB-1k.

    python -m mlp_mixer transfers sweeps/*

"Avg 5" is the mean over ImageNet, CIFAR-10, CIFAR-100, Pets and Flowers, "VTAB-1k" that over its 19
tasks. Which data set a sweep is on follows from its data source; where that is a folder, write
NAME=WORKDIR with a name of the table, such as Pets=sweeps/pets or dtd=sweeps/dtd. Of several sweeps
on one data set (the paper has three, here --config.seed=1 and so on) the mean counts. A mean
over data sets is printed when all of them are there.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mlp_mixer import cli
from mlp_mixer.data import vtab
from mlp_mixer.training import sweep

SOURCES = {
    "ImageNet": "tfds:imagenet2012",
    "CIFAR-10": "tfds:cifar10",
    "CIFAR-100": "tfds:cifar100",
    "Pets": "tfds:oxford_iiit_pet",
    "Flowers": "tfds:oxford_flowers102",
    **{task: f"vtab:{task}" for task in vtab.TASKS},
}
_VTAB = tuple(vtab.TASKS)
MEANS = {
    "Avg 5": ("ImageNet", "CIFAR-10", "CIFAR-100", "Pets", "Flowers"),
    "VTAB-1k, natural": _VTAB[:7],
    "VTAB-1k, specialised": _VTAB[7:11],
    "VTAB-1k, structured": _VTAB[11:],
    "VTAB-1k": _VTAB,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workdirs", nargs="+", metavar="[NAME=]WORKDIR", help="of sweeps")


def main(args: argparse.Namespace) -> None:
    rates: dict[str, list[float]] = {}
    accuracies: dict[str, list[float]] = {}
    unfinished = []
    for text in args.workdirs:
        name, _, path = text.rpartition("=")
        file = Path(path) / sweep.RESULT_FILE
        if not file.exists():
            unfinished.append(path)
            continue
        result = json.loads(file.read_text())
        name = name or next((n for n in SOURCES if SOURCES[n] == result["source"]), "")
        if name not in SOURCES:
            raise ValueError(
                f"{text}: on which data is it ({result['source']})? Write NAME=WORKDIR with NAME "
                f"one of {', '.join(SOURCES)}"
            )
        rates.setdefault(name, []).append(result["lr"])
        accuracies.setdefault(name, []).append(100 * result["test"]["test/accuracy"])
    rows = [("data set", "learning rate", "accuracy", "deviation")]
    for name in filter(accuracies.get, SOURCES):
        found = accuracies[name]
        deviation = f"{np.std(found, ddof=1):.2f} of {len(found)}" if len(found) > 1 else ""
        lr = ", ".join(f"{x:g}" for x in rates[name])
        rows.append((name, lr, f"{np.mean(found):.2f}", deviation))
    rows += [(name, "", f"{mean:.2f}", "") for name, mean in means(accuracies).items()]
    print(cli.table(rows))
    for path in unfinished:
        print(f"{path} is no finished sweep: it has no {sweep.RESULT_FILE}")


def means(accuracies: Mapping[str, list[float]]) -> dict[str, float]:
    """The paper's means over data sets, of those whose data sets are all there."""
    return {
        name: float(np.mean([np.mean(accuracies[part]) for part in parts]))
        for name, parts in MEANS.items()
        if all(part in accuracies for part in parts)
    }
