"""Measures the accuracy of a checkpoint on a labelled data set, counting every example once.

    mlp-mixer evaluate --checkpoint=WORKDIR [--figure=sheet.png]
    mlp-mixer evaluate --checkpoint=FILE.npz --source=folder:PATH [--crop=resize]
    mlp-mixer evaluate --checkpoint=FILE.npz --fewshot=tfds:cifar100
    mlp-mixer evaluate --checkpoint=WORKDIR --suite=paper --transfers WORKDIR...
    mlp-mixer evaluate --checkpoint=gsam/Mixer-B_16 --suite=robustness --sets A R=folder:PATH

--fewshot measures a linear classifier on the features of a few images per class, for which the
checkpoint needs no head. --suite=paper measures the model's row of the paper's Table 3 and prints
the published one beside it. --suite=robustness measures a classifier of ImageNet on ImageNet-v2,
-A, -R, -Sketch and -C, beside published figures; a set that is not there is left out, with a line
on how to get it. docs/reference/evaluation.md describes the protocols.

--figure draws a sheet of images with their predictions, from as many classes as possible, errors
first and in red. --per-class prints the accuracy of each class. --confusion draws the confusion
matrix, or writes its numbers if the file ends in .csv. --json prints the result as JSON.
"""

import argparse
import json

from mlp_mixer.analysis import robustness, sheet, suite, table_3
from mlp_mixer.analysis.robustness import NAMES
from mlp_mixer.cli import output
from mlp_mixer.cli.arguments import (
    add_dtype_argument,
    add_size_arguments,
    add_workers_argument,
    file_to_write,
)
from mlp_mixer.data import images
from mlp_mixer.evaluation import fewshot
from mlp_mixer.inference.measure import Evaluation, evaluate, few_shot

# What is measured, as it is asked for, and the flags that not all of these read.
PLAIN, FEWSHOT = "an evaluation without --fewshot and --suite", "--fewshot"
PAPER, ROBUSTNESS = "--suite=paper", "--suite=robustness"
READ_BY = {
    "source": (PAPER, ROBUSTNESS, PLAIN),
    "split": (FEWSHOT, PLAIN),
    "figure": (PLAIN,),
    "per_class": (PLAIN,),
    "confusion": (PLAIN,),
    "train_split": (FEWSHOT,),
    "shots": (FEWSHOT,),
    "transfers": (PAPER,),
    "pretraining": (PAPER,),
    "sets": (ROBUSTNESS,),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", required=True, help="weights file, or workdir of a run")
    add_size_arguments(parser)
    add_dtype_argument(parser)
    parser.add_argument("--source", help="data source; by default the run's own")
    parser.add_argument("--split", help="split of the data source; by default the run's, or test")
    parser.add_argument(
        "--crop", choices=images.CROPS, help="default: the run's, or resmall; for few-shot resize"
    )
    parser.add_argument(
        "--crop-fraction", type=float, metavar="F",
        help="share of each side of the resized image to keep; default: the run's, or 0.875",
    )  # fmt: skip
    parser.add_argument("--batch-size", type=int, default=64)
    add_workers_argument(parser)
    parser.add_argument(
        "--figure", type=file_to_write, help="draw a sheet of predictions to this file"
    )
    parser.add_argument("--per-class", action="store_true", help="the accuracy of each class")
    parser.add_argument(
        "--confusion", type=file_to_write, metavar="FILE",
        help="the confusion matrix, as a picture or as .csv",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    group = parser.add_argument_group("--fewshot")
    group.add_argument("--fewshot", metavar="SOURCE", help="few-shot accuracy on this data source")
    group.add_argument("--train-split", help="split to draw the few images from; default: train")
    group.add_argument(
        "--shots", type=int, nargs="+", metavar="N",
        help=f"images of each class; default: {' '.join(map(str, fewshot.SHOTS))}",
    )  # fmt: skip
    parser.add_argument(
        "--suite", choices=("paper", "robustness"),
        help="what the paper's Table 3 reports, or accuracy on robustness sets",
    )  # fmt: skip
    group = parser.add_argument_group("--suite=paper")
    group.add_argument(
        "--transfers", nargs="+", default=[], metavar="[NAME=]WORKDIR",
        help="sweeps or runs on CIFAR-10, CIFAR-100, Pets and Flowers, for Avg 5; several on one "
        "data set are averaged",
    )  # fmt: skip
    group.add_argument(
        "--pretraining", choices=table_3.DATA,
        help="which published rows to show; by default those of the weights' origin, or all",
    )  # fmt: skip
    group = parser.add_argument_group("--suite=robustness")
    group.add_argument(
        "--sets", nargs="+", default=[], metavar="NAME[=SOURCE]",
        help=f"which sets to measure beside ImageNet, and where they are: {', '.join(NAMES)}; by "
        "default all, as TFDS has prepared them. --source says where ImageNet is",
    )  # fmt: skip


def main(args: argparse.Namespace) -> None:
    measure = {PLAIN: _accuracy, FEWSHOT: _few_shots, PAPER: _suite, ROBUSTNESS: _robustness}
    measure[_mode(args)](args)


def _mode(args: argparse.Namespace) -> str:
    """Returns what is measured; raises ValueError if a flag was given that it does not read."""
    if args.fewshot and args.suite:
        raise ValueError(f"--fewshot and --suite={args.suite} measure different things; give one")
    mode = f"--suite={args.suite}" if args.suite else FEWSHOT if args.fewshot else PLAIN
    for name, modes in READ_BY.items():
        if getattr(args, name) and mode not in modes:
            raise ValueError(
                f"--{name.replace('_', '-')} is for {' or '.join(modes)}, and this is {mode}; "
                "leave it out"
            )
    return mode


def _sizes(args: argparse.Namespace) -> dict:
    names = ("image_size", "patch_size", "resize", "crop_fraction", "batch_size", "workers")
    return {name: getattr(args, name) for name in names}


def _accuracy(args: argparse.Namespace) -> None:
    result = evaluate(
        args.checkpoint, args.source, args.split, crop=args.crop, dtype=args.dtype, **_sizes(args)
    )
    if args.json:
        found = result.scalars()
        if args.per_class:
            found["per_class"] = {
                name: {"accuracy": accuracy, "examples": count}
                for name, (accuracy, count) in result.predictions.per_class().items()
            }
        print(json.dumps(found, indent=2))
    else:
        top5 = "" if result.top5 is None else f" top-5 {result.top5:.2%},"
        print(
            f"{result.source}: accuracy {result.accuracy:.2%},{top5} loss "
            f"{result.loss:.4f} on {result.examples} images (crop {result.crop} "
            f"{result.crop_fraction:g})"
        )
        if args.per_class:
            rows = result.predictions.per_class().items()
            cells = [(name, f"{share:.2%}", str(count)) for name, (share, count) in rows]
            print("\n" + output.table([("class", "accuracy", "images"), *cells]))
    if args.confusion:
        _confusion(result, args.confusion)
    if args.figure:
        output.save_figure(sheet.sheet(result), args.figure)


def _confusion(result: Evaluation, path: str) -> None:
    if not path.endswith(".csv"):
        output.save_figure(sheet.confusion(result), path)
        return
    names, matrix = result.predictions.class_names, result.predictions.confusion()
    rows = ([name, *row] for name, row in zip(names, matrix.tolist(), strict=True))
    output.save_csv([["class", *names], *rows], path)


def _few_shots(args: argparse.Namespace) -> None:
    result = few_shot(
        args.checkpoint, args.fewshot, args.split or "test",
        train_split=args.train_split or "train", shots=args.shots or fewshot.SHOTS,
        crop=args.crop or "resize", dtype=args.dtype, **_sizes(args),
    )  # fmt: skip
    if args.json:
        print(json.dumps(result.__dict__, indent=2))
        return
    for name, accuracy in result.accuracy.items():
        print(
            f"{result.source}: {name} {accuracy:.2%} on {result.examples} images, mean of "
            f"{fewshot.SEEDS} draws (crop {result.crop} {result.crop_fraction:g})"
        )


def _suite(args: argparse.Namespace) -> None:
    found = suite.measure(
        args.checkpoint, source=args.source, transfers=args.transfers,
        pretraining=args.pretraining, crop=args.crop, dtype=args.dtype, **_sizes(args),
    )  # fmt: skip
    if args.json:
        print(json.dumps(found.__dict__, indent=2))
        return
    missing = (f"{suite.MISSING} {reason}" for reason in found.missing)
    print("\n".join([output.table(found.rows), "", *found.remarks, *missing]))


def _robustness(args: argparse.Namespace) -> None:
    found = robustness.measure(
        args.checkpoint, args.source, sets=args.sets, crop=args.crop, dtype=args.dtype,
        **_sizes(args),
    )  # fmt: skip
    if args.json:
        print(json.dumps(found.as_dict(), indent=2))
        return
    tables = [output.table(rows) for rows in (found.rows(), found.corruption_rows()) if rows]
    print("\n\n".join(tables) + "\n")
    print("\n".join([*found.remarks, *(f"{suite.MISSING} {reason}" for reason in found.missing)]))
