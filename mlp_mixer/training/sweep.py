"""Chooses a learning rate on held-out training images, trains on all of them, and tests once.

The protocol is described where the user reads it: in `mlp-mixer sweep --help`, cli/sweep.py.
"""

import json
import logging
from collections.abc import Container
from os import PathLike

import jax
import ml_collections

from mlp_mixer.runs import metrics
from mlp_mixer.runs.folder import (
    AVERAGE_PREFIX,
    CONFIG_FILE,
    SWEEP_FILE,
    SWEEP_FULL,
    SWEEP_RATE,
    is_finished,
    read_config,
)
from mlp_mixer.runtime.processes import from_process_0
from mlp_mixer.runtime.storage import AnyPath, as_path, write_text
from mlp_mixer.training import fields, loop
from mlp_mixer.training.resume import check_config

log = logging.getLogger(__name__)

RESULT_FILE, TABLE_FILE = SWEEP_FILE, "sweep.md"
FULL = SWEEP_FULL  # folder of the last run
DIVERGED_FILE = "diverged.txt"  # marks the folder of a run that diverged, with the error message


def sweep(config: ml_collections.ConfigDict, workdir: str | PathLike) -> dict:
    """Runs what is left of a sweep, and writes its result to sweep.json and sweep.md.

    See `mlp-mixer sweep --help` for the protocol.

    Args:
        config: a config with the field `sweep`.
        workdir: folder for all runs of the sweep.

    Returns:
        {"source", "dev": {rate: accuracy, or None if the run diverged}, "lr": the best rate,
        "test": the scalars of config.evals}.

    Raises:
        ValueError: the config has no sweep or has keep_best, all runs diverged, or the best rate is
            not the one that was tested before.
    """
    if not isinstance(config.get("sweep"), ml_collections.ConfigDict):
        raise ValueError(f"this config has no field sweep ({', '.join(fields.SWEEP)})")
    if missing := [f"sweep.{name}" for name in fields.SWEEP if name not in config.sweep]:
        raise ValueError(f"this config lacks {', '.join(missing)}")
    config, workdir = fields.check(config), as_path(workdir)
    if config.keep_best:
        raise ValueError(
            f"keep_best={config.keep_best} is not for a sweep, which judges each run at its end: "
            'set keep_best=""'
        )
    found = {}
    for lr in config.sweep.learning_rates:
        log.info("learning rate %g", lr)
        found[lr] = _on_dev(_dev_config(config, lr), workdir / f"{SWEEP_RATE}{lr:g}")
    dev = {lr: scalars and scalars["dev/accuracy"] for lr, scalars in found.items()}
    best = best_rate(found)
    _check_not_tested(workdir / FULL, best)
    log.info("learning rate %g is best; training on all of %s", best, config.data.train_split)
    test = _train(_full_config(config, best), workdir / FULL)
    result = {"source": config.data.source, "dev": dev, "lr": best, "test": test}
    if jax.process_index() == 0:
        write_text(workdir / TABLE_FILE, markdown(result) + "\n")
        write_text(workdir / RESULT_FILE, json.dumps(result, indent=2) + "\n")
    return result


def best_rate(found: dict[float, dict[str, float] | None]) -> float:
    """Returns the rate with the best dev accuracy; ties go to lower dev loss, then to lower rate.

    Args:
        found: the last evaluation of each rate's run; None if it diverged.

    Raises:
        ValueError: all runs diverged.
    """
    if not (finite := {lr: scalars for lr, scalars in found.items() if scalars}):
        raise ValueError(
            f"with each of the learning rates {', '.join(f'{lr:g}' for lr in found)} the run "
            "diverged; give lower ones as --config.sweep.learning_rates"
        )
    return min(finite, key=lambda lr: (-finite[lr]["dev/accuracy"], finite[lr]["dev/loss"], lr))


def markdown(result: dict) -> str:
    """Formats a sweep's result as a Markdown table."""
    lines = [f"{result['source']}", "", "| learning rate | dev accuracy | |", "|---|---|---|"]
    for lr, accuracy in sorted(result["dev"].items()):
        cell = "diverged" if accuracy is None else f"{accuracy:.2%}"
        lines.append(f"| {lr:g} | {cell} | {'chosen' if lr == result['lr'] else ''} |")
    for name, value in result["test"].items():
        if name.endswith("accuracy"):
            lines += ["", f"Trained on everything with {result['lr']:g}: {name} {value:.2%}"]
    return "\n".join(lines)


def _on_dev(config: ml_collections.ConfigDict, workdir: AnyPath) -> dict[str, float] | None:
    """Returns the scalars that judge a rate; None for a run that diverged, now or before."""
    marker = workdir / DIVERGED_FILE
    if from_process_0(marker.exists):
        check_config(workdir, config)
        return None
    try:
        return _train(config, workdir)
    except FloatingPointError as error:
        log.warning("this rate is out: %s", error)
        if jax.process_index() == 0:
            write_text(marker, f"{error}\n")
        return None


def _train(config: ml_collections.ConfigDict, workdir: AnyPath) -> dict[str, float]:
    """Trains a run unless it is finished, and returns the scalars of its last evaluation."""
    if not from_process_0(lambda: is_finished(workdir) and _is_evaluated(config, workdir)):
        return loop.train(config, workdir)
    check_config(workdir, config)
    for line in reversed(metrics.read(workdir)):
        if found := {name: value for name, value in line.items() if _is_of(name, config.evals)}:
            return found
    raise ValueError(f"{workdir} is finished, but its {metrics.FILE} holds no evaluation")


def _is_of(scalar: str, evals: Container[str]) -> bool:
    """Returns whether a scalar, such as test/accuracy or ema_test/accuracy, is of an evaluator."""
    name = scalar.partition("/")[0]
    return name in evals or name.removeprefix(AVERAGE_PREFIX) in evals


def _is_evaluated(config: ml_collections.ConfigDict, workdir: AnyPath) -> bool:
    """Returns whether the run was evaluated as the config now says."""
    before, now = (fields.completed(x) for x in (read_config(workdir), config.to_dict()))
    names = [
        name for name in before.keys() | now.keys() if name.startswith(("evals.", "eval_crop"))
    ]
    return all(before.get(name) == now.get(name) for name in names)


def _dev_config(config: ml_collections.ConfigDict, lr: float) -> ml_collections.ConfigDict:
    dev = ml_collections.ConfigDict(dict(type="classification", split=config.sweep.dev_split))
    config = _run_config(config, lr, config.sweep.train_split)
    config.evals = ml_collections.ConfigDict(dict(dev=dev))
    return config


def _full_config(config: ml_collections.ConfigDict, lr: float) -> ml_collections.ConfigDict:
    config = _run_config(config, lr, config.data.train_split)
    # Only once, at the end, however often the config would evaluate.
    config.eval_every_epochs, config.eval_every_steps = config.total_epochs, config.total_steps
    return config


def _run_config(
    config: ml_collections.ConfigDict, lr: float, train_split: str
) -> ml_collections.ConfigDict:
    config = config.copy_and_resolve_references()
    with config.unlocked():
        del config["sweep"]  # so that finished runs stay valid when rates are added
    config.lr, config.data.train_split = lr, train_split
    return config


def _check_not_tested(workdir: AnyPath, best: float) -> None:
    if not (workdir / CONFIG_FILE).exists():
        return
    if (before := read_config(workdir)["lr"]) != best:
        raise ValueError(
            f"{workdir} was trained with the learning rate {before:g}, and now {best:g} is best. "
            "The test images may have been used, which is to happen once: start a sweep with all "
            f"rates in a new workdir, or delete {workdir} to test again"
        )
