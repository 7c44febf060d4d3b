"""Accuracy of a checkpoint on a labelled data set, every example counted once.

    python -m mlp_mixer evaluate --checkpoint=WORKDIR [--figure=sheet.png]
    python -m mlp_mixer evaluate --checkpoint=FILE.npz --source=folder:PATH

The figure is a sheet of the data set's images with their predictions, the errors first and in red.
"""

import argparse

from mlp_mixer import cli
from mlp_mixer.data.sources import open_source
from mlp_mixer.evaluation.classification import Classification
from mlp_mixer.evaluation.classifier import Classifier, load_classifier
from mlp_mixer.training import parallel
from mlp_mixer.training import workdir as run

SHEET_TILES = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", required=True, help="weights file, or workdir of a run")
    cli.add_size_arguments(parser)
    parser.add_argument("--source", help="data source; by default the run's own")
    parser.add_argument("--split", help="of the data source; by default the run's, or test")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--figure", help="draw a sheet of predictions to this file")


def main(args: argparse.Namespace) -> None:
    classifier = load_classifier(args.checkpoint, args.image_size, args.patch_size, args.resize)
    source = _open(args, classifier)
    evaluation = Classification(
        classifier.module,
        source,
        parallel.make_mesh(),
        batch_size=args.batch_size,
        crop=classifier.crop,
        crop_fraction=classifier.crop_fraction,
        loss=classifier.loss,
    )
    result = evaluation.run(classifier.params)
    print(
        f"{source.name}: accuracy {result['accuracy']:.2%}, loss {result['loss']:.4f} "
        f"on {result['examples']:.0f} images"
    )
    if args.figure:
        _draw(args.figure, classifier, source, evaluation, result)
        print(f"drawn to {args.figure}")


def _open(args: argparse.Namespace, classifier: Classifier):
    """The data set to evaluate on; its classes must be the classifier's."""
    workdir = run.of(args.checkpoint)
    config = run.read_config(workdir) if workdir else {"data": {}, "evals": {}}
    spec = args.source or config["data"].get("source")
    if not spec:
        raise ValueError(
            "--source is needed: this checkpoint does not say on which data it is used"
        )
    split = args.split or config["evals"].get("test", {}).get("split", "test")
    source = open_source(spec, split, classifier.module.image_channels)
    if len(source.class_names) != classifier.module.num_classes:
        raise ValueError(
            f"{args.checkpoint} tells {classifier.module.num_classes} classes apart, "
            f"{source.name} has {len(source.class_names)}"
        )
    return source


def _draw(path, classifier, source, evaluation, result) -> None:
    from mlp_mixer.analysis.figures import Tile, draw_sheet
    from mlp_mixer.data.images import eval_view

    probabilities, labels = evaluation.predict(classifier.params)
    guesses = probabilities.argmax(-1)
    errors = [i for i in range(len(labels)) if guesses[i] != labels[i]]
    correct = [i for i in range(len(labels)) if guesses[i] == labels[i]]
    shown = (errors[: SHEET_TILES // 2] + correct)[:SHEET_TILES]
    tiles = []
    for i in shown:
        image = eval_view(source[i][0], classifier.module.image_size)
        text = f"{source.class_names[guesses[i]]}  {probabilities[i, guesses[i]]:.0%}"
        wrong = guesses[i] != labels[i]
        if wrong:
            text += f"\nis {source.class_names[labels[i]]}"
        tiles.append(Tile(image, text, wrong))
    title = (
        f"{source.name}: {result['accuracy']:.2%} correct, "
        f"{len(errors)} of {len(labels)} wrong (in red, at most {SHEET_TILES // 2} shown)"
    )
    draw_sheet(path, tiles, columns=10, width=1.1, title=title)
