"""Chooses a learning rate on held-out training images, trains on all of them, and tests once.

    python -m mlp_mixer sweep --config=configs/transfer.py:B/16,cifar10 --workdir=sweeps/cifar10 \\
        --config.init_from=imagenet21k/Mixer-B_16

Each rate of config.sweep.learning_rates is a run in WORKDIR/lr_RATE, trained on
config.sweep.train_split and judged by its accuracy on config.sweep.dev_split at the end. The best
is trained again in WORKDIR/full, on config.data.train_split, and evaluated as config.evals says
when it ends, not before. Being stopped loses nothing: the same command goes on. The result is
printed, and is in WORKDIR/sweep.json and WORKDIR/sweep.md.
"""

import argparse
import json
import logging
from pathlib import Path

import ml_collections

from mlp_mixer import cli

log = logging.getLogger(__name__)

RESULT_FILE, TABLE_FILE = "sweep.json", "sweep.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    cli.add_config_argument(parser)
    parser.add_argument("--workdir", required=True, type=Path, help="folder for all of its runs")


def main(args: argparse.Namespace) -> None:
    result = sweep(args.config, args.workdir)
    print(table(result))
    print(f"weights are in {args.workdir / 'full'}, this table in {args.workdir / TABLE_FILE}")


def sweep(config: ml_collections.ConfigDict, workdir: Path) -> dict:
    """Runs what is left of the sweep.

    Returns:
        {"source", "dev": {rate: accuracy}, "lr", "test": scalars of config.evals}.

    Raises:
        ValueError: the config has no sweep.
    """
    if "sweep" not in config:
        raise ValueError("this config has no field sweep (learning_rates, train_split, dev_split)")
    dev = {}
    for lr in config.sweep.learning_rates:
        log.info("learning rate %g", lr)
        dev[lr] = _train(_dev_config(config, lr), workdir / f"lr_{lr:g}")["dev/accuracy"]
    best = max(dev, key=dev.get)
    log.info("learning rate %g is best; training on all of %s", best, config.data.train_split)
    test = _train(_full_config(config, best), workdir / "full")
    result = {"source": config.data.source, "dev": dev, "lr": best, "test": test}
    (workdir / RESULT_FILE).write_text(json.dumps(result, indent=2) + "\n")
    (workdir / TABLE_FILE).write_text(table(result) + "\n")
    return result


def table(result: dict) -> str:
    """The sweep's result as a Markdown table."""
    lines = [f"{result['source']}", "", "| learning rate | dev accuracy | |", "|---|---|---|"]
    for lr, accuracy in result["dev"].items():
        lines.append(f"| {lr:g} | {accuracy:.2%} | {'chosen' if lr == result['lr'] else ''} |")
    for name, value in result["test"].items():
        if name.endswith("accuracy"):
            lines += ["", f"Trained on everything with {result['lr']:g}: {name} {value:.2%}"]
    return "\n".join(lines)


def _train(config: ml_collections.ConfigDict, workdir: Path) -> dict[str, float]:
    """The scalars of a run's last evaluation; one that is finished is not trained again."""
    from mlp_mixer.training import loop, metrics  # seconds to import
    from mlp_mixer.training import workdir as run

    if not (workdir / run.WEIGHTS_FILE).exists():
        return loop.train(config, workdir)
    run.check(workdir, config)
    for line in reversed(metrics.read(workdir)):
        if found := {name: line[name] for name in line if name.split("/")[0] in config.evals}:
            return found
    raise ValueError(f"{workdir} is finished, but its {metrics.FILE} holds no evaluation")


def _dev_config(config: ml_collections.ConfigDict, lr: float) -> ml_collections.ConfigDict:
    config = config.copy_and_resolve_references()
    config.lr = lr
    config.data.train_split = config.sweep.train_split
    dev = ml_collections.ConfigDict(
        dict(type="classification", split=config.sweep.dev_split, source="", enabled=True)
    )
    config.evals = ml_collections.ConfigDict(dict(dev=dev))
    return config


def _full_config(config: ml_collections.ConfigDict, lr: float) -> ml_collections.ConfigDict:
    config = config.copy_and_resolve_references()
    config.lr = lr
    # Once, at the end, whatever the cadence was.
    config.eval_every_epochs, config.eval_every_steps = config.total_epochs, config.total_steps
    return config
