"""Accuracy of a checkpoint on a labelled data set, every example counted once.

    python -m mlp_mixer evaluate --checkpoint=WORKDIR [--figure=sheet.png]
    python -m mlp_mixer evaluate --checkpoint=FILE.npz --source=folder:PATH [--crop=resize]
    python -m mlp_mixer evaluate --checkpoint=FILE.npz --fewshot=tfds:cifar100
    python -m mlp_mixer evaluate --checkpoint=WORKDIR --suite=paper --transfers WORKDIR...

With --fewshot it is the accuracy of linear least squares on the features of a few images a class,
and the checkpoint needs no head. With --suite=paper it is the model's row of the paper's Table 3,
beside the published one. Protocols are in docs/evaluation.md.

The figure is a sheet of the data set's images with their predictions, the errors first and in red.
"""

import argparse
from collections.abc import Callable, Sequence

import numpy as np

from mlp_mixer import cli
from mlp_mixer.data import images
from mlp_mixer.data.sources import open_source
from mlp_mixer.evaluation import fewshot, suite
from mlp_mixer.evaluation.classification import Classification
from mlp_mixer.evaluation.classifier import load_classifier
from mlp_mixer.evaluation.features import Features
from mlp_mixer.training import parallel
from mlp_mixer.training import workdir as run
from mlp_mixer.weights.load import read

SHEET_TILES = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", required=True, help="weights file, or workdir of a run")
    cli.add_size_arguments(parser)
    parser.add_argument("--source", help="data source; by default the run's own")
    parser.add_argument("--split", help="of the data source; by default the run's, or test")
    parser.add_argument(
        "--crop", choices=images.CROPS, help="default: the run's, or resmall; for few-shot resize"
    )
    parser.add_argument(
        "--crop-fraction", type=float, metavar="F",
        help="of the resized image that is seen, along each side; default: the run's, or 0.875",
    )  # fmt: skip
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--figure", help="draw a sheet of predictions to this file")
    group = parser.add_argument_group("--fewshot")
    group.add_argument("--fewshot", metavar="SOURCE", help="few-shot accuracy on this data source")
    group.add_argument("--train-split", default="train", help="to draw the few from")
    group.add_argument("--shots", type=int, nargs="+", default=fewshot.SHOTS, metavar="N")
    parser.add_argument("--suite", choices=("paper",), help="what the paper's Table 3 reports")
    suite.add_arguments(parser)


def main(args: argparse.Namespace) -> None:
    if args.suite:
        print(suite.report(args))
    elif args.fewshot:
        _few_shots(args)
    else:
        _accuracy(args)


def _accuracy(args: argparse.Namespace) -> None:
    classifier = load_classifier(args.checkpoint, args.image_size, args.patch_size, args.resize)
    config = _config(args)
    test = config["evals"].get("test") or config["evals"].get("val") or {}
    spec = args.source or test.get("source") or config["data"].get("source")
    if not spec:
        raise ValueError(
            "--source is needed: this checkpoint does not say on which data it is used"
        )
    split = args.split or test.get("split") or "test"
    crop = args.crop or test.get("crop") or classifier.crop
    fraction = args.crop_fraction or test.get("crop_fraction") or classifier.crop_fraction
    source = open_source(spec, split, classifier.module.image_channels)
    evaluation = Classification(
        classifier.module,
        source,
        parallel.make_mesh(),
        batch_size=args.batch_size,
        crop=crop,
        crop_fraction=fraction,
        loss=classifier.loss,
        skip_broken=config["data"].get("skip_broken", False),
        class_names=classifier.class_names,
        model_is=args.checkpoint,
    )
    result = evaluation.run(classifier.params)
    print(
        f"{source.name}: accuracy {result['accuracy']:.2%}, top-5 {result['top5']:.2%}, loss "
        f"{result['loss']:.4f} on {result['examples']:.0f} images (crop {crop} {fraction:g})"
    )
    if args.figure:
        probabilities, labels, indices = evaluation.predict(classifier.params)

        def view(i: int) -> np.ndarray:
            image, _ = source[int(indices[i])]
            return images.eval_view(image, classifier.module.image_size, crop, fraction)

        names = classifier.class_names or source.class_names
        _draw(args.figure, source.name, names, view, probabilities, labels)
        print(f"drawn to {args.figure}")


def _config(args: argparse.Namespace) -> dict:
    workdir = run.of(args.checkpoint)
    return run.read_config(workdir) if workdir else {"data": {}, "evals": {}}


def _few_shots(args: argparse.Namespace) -> None:
    module, params, said = read(args.checkpoint, 0, args.image_size, args.patch_size, args.resize)
    split = args.split or "test"
    train, test = (
        open_source(args.fewshot, part, module.image_channels) for part in (args.train_split, split)
    )
    crop = args.crop or "resize"
    config = _config(args)
    fraction = args.crop_fraction or said.get("crop_fraction", 0.875)
    features = Features(
        module,
        parallel.make_mesh(),
        batch_size=args.batch_size,
        crop=crop,
        crop_fraction=fraction,
        skip_broken=config["data"].get("skip_broken", False),
    )
    result = fewshot.FewShot(features, train, test, args.shots).run(params)
    for name, accuracy in result.items():
        print(
            f"{train.name}: {name} {accuracy:.2%} on {len(test)} images, mean of {fewshot.SEEDS} "
            f"draws (crop {crop} {fraction:g})"
        )


def _draw(
    path: str,
    source: str,
    names: Sequence[str],
    view: Callable[[int], np.ndarray],
    probabilities: np.ndarray,
    labels: np.ndarray,
) -> None:
    from mlp_mixer.analysis.figures import Tile, draw_sheet

    if labels.ndim > 1:
        raise ValueError(f"--figure: images of {source} have several labels; none is drawn")
    guesses = probabilities.argmax(-1)
    errors = np.flatnonzero(guesses != labels)
    shown = [*errors[: SHEET_TILES // 2], *np.flatnonzero(guesses == labels)][:SHEET_TILES]
    tiles = []
    for i in map(int, shown):
        text = f"{names[guesses[i]]}  {probabilities[i, guesses[i]]:.0%}"
        wrong = bool(guesses[i] != labels[i])
        if wrong:
            text += f"\nis {names[labels[i]]}"
        tiles.append(Tile(view(i), text, wrong))
    title = (
        f"{source}: {np.mean(guesses == labels):.2%} correct, "
        f"{len(errors)} of {len(labels)} wrong (in red, at most {SHEET_TILES // 2} shown)"
    )
    draw_sheet(path, tiles, columns=10, width=1.1, title=title)
