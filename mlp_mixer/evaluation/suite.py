"""A model's row of the paper's Table 3, beside the published one: `evaluate --suite=paper`.

What cannot be measured, for want of a data set or a transfer, is a dash with its reason.
"""

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from mlp_mixer import cli
from mlp_mixer.data import sources
from mlp_mixer.evaluation import paper, throughput
from mlp_mixer.evaluation.classification import Classification
from mlp_mixer.evaluation.classifier import Classifier, load_classifier
from mlp_mixer.models import mixer
from mlp_mixer.training import metrics, parallel, setup
from mlp_mixer.training import workdir as run
from mlp_mixer.weights.released import RELEASED

IMAGENET, REAL = "tfds:imagenet2012", "tfds:imagenet2012_real"
# The other four of "Avg 5", and where a run on them has its images by default.
TRANSFERS = {
    "CIFAR-10": "tfds:cifar10",
    "CIFAR-100": "tfds:cifar100",
    "Pets": "tfds:oxford_iiit_pet",
    "Flowers": "tfds:oxford_flowers102",
}
CROP, CROP_FRACTION = "resmall", 0.875  # of Table 3
PRETRAINED_ON = {"imagenet1k": "ImageNet", "imagenet21k": "ImageNet-21k"}  # folders of RELEASED
COLUMNS = ("ImageNet", "ReaL", "Avg 5")
MISSING = "–"


def report(args: argparse.Namespace) -> str:
    """Measures what it can; see `evaluate` for the arguments.

    Raises:
        ValueError: a transfer is of another model, or not on one of the four data sets.
    """
    classifier = load_classifier(args.checkpoint, args.image_size, args.patch_size, args.resize)
    classifier = replace(
        classifier, crop=args.crop or CROP, crop_fraction=args.crop_fraction or CROP_FRACTION
    )
    module = classifier.module
    if not isinstance(module, mixer.MlpMixer):
        raise ValueError(
            f"{args.checkpoint} is a {type(module).__name__}; the suite is for Mixers that see "
            "pixels in their order"
        )
    name = variant(args.checkpoint, module)
    transfers, notes = _read_transfers(args.transfers, name, module.image_size, classifier.crop)
    found = _accuracies(classifier, args, notes)
    if missing := [task for task in TRANSFERS if task not in transfers]:
        notes.append(f"Avg 5: needs --transfers with finished runs on {', '.join(missing)}")
    elif "ImageNet" in found:
        found["Avg 5"] = float(np.mean([found["ImageNet"], *transfers.values()]))
    dtype = setup.compute_dtype("auto", jax.default_backend())
    speed = throughput.measure(module.clone(dtype=dtype), classifier.params)

    measured = *map(found.get, COLUMNS), speed.images_per_second
    rows = [("", *COLUMNS, "images/s"), _cells("this model", *measured)]
    data = args.pretraining or pretrained_on(args.checkpoint)
    for row in paper.published(f"Mixer-{name}", module.image_size[0], data):
        label = f"published: {row.model}, {row.data}, {row.px} px, {row.epochs} epochs"
        rows.append(_cells(label, row.imagenet, row.real, row.avg5, row.throughput))
    seen = _by(module.image_size)
    if len(rows) == 2:
        notes.append(
            f"published: Table 3 has no Mixer {name or 'of these widths'} at {seen} pixels"
            + (f" from {data}" if data else "")
        )
    resized = _by(round(side / classifier.crop_fraction) for side in module.image_size)
    device = jax.local_devices()[0]
    return "\n".join(
        [
            cli.table(rows),
            "",
            f"crop: {classifier.crop}, to {resized} and the middle {seen} of it. Table 3 has "
            "resmall, to 256x256 and 224x224 of it; Table 2 has resize.",
            f"images/s: here on one {device.device_kind} ({device.platform}) in "
            f"{np.dtype(dtype).name}, at batch size {speed.batch_size}; published on one TPUv3 "
            "core.",
            *(f"{task}: {value:.2f}" for task, value in transfers.items()),
            *(f"{MISSING} {note}" for note in notes),
        ]
    )


def variant(checkpoint: str | Path, module: mixer.MlpMixer) -> str | None:
    """Such as "L/16", also where the paper's scheme for larger images has widened the model."""
    if workdir := run.of(checkpoint):
        return run.read_config(workdir)["model"].get("variant")
    for times in (1, module.image_size[0] // 224):
        narrow = module.clone(tokens_mlp_dim=module.tokens_mlp_dim // max(times, 1) ** 2)
        if name := mixer.variant_of(narrow):
            return name
    return None


def pretrained_on(checkpoint: str | Path) -> str | None:
    """The name in Table 3 of the images that released weights come from, or a run's init_from."""
    workdir = run.of(checkpoint)
    origin = str(run.read_config(workdir).get("init_from") if workdir else checkpoint)
    return PRETRAINED_ON.get(origin.partition("/")[0]) if origin in RELEASED else None


def _accuracies(
    classifier: Classifier, args: argparse.Namespace, notes: list[str]
) -> dict[str, float]:
    """Per cent on ImageNet and ReaL; where one is not possible, a note says why."""
    imagenet = args.source or IMAGENET
    real = (imagenet, "real") if imagenet.startswith("folder:") else (REAL, "validation")
    found = {}
    for column, where in {"ImageNet": (imagenet, "validation"), "ReaL": real}.items():
        try:
            evaluation = Classification(
                classifier.module,
                sources.open_source(*where, classifier.module.image_channels),
                parallel.make_mesh(),
                batch_size=args.batch_size,
                crop=classifier.crop,
                crop_fraction=classifier.crop_fraction,
                loss=classifier.loss,
                class_names=classifier.class_names,
                model_is=args.checkpoint,
            )
            found[column] = 100 * evaluation.run(classifier.params)["accuracy"]
        except (ValueError, OSError) as error:
            notes.append(f"{column}: {error}")
    return found


def _read_transfers(
    workdirs: list[str], name: str | None, image_size: tuple[int, int], crop: str
) -> tuple[dict[str, float], list[str]]:
    """Test accuracies in per cent by data set, the mean of its runs, and notes on what is odd."""
    found, notes = {}, []
    for text in workdirs:
        task, separator, path = text.rpartition("=")
        workdir = Path(path)
        if (workdir / "full").is_dir():  # of a sweep
            workdir /= "full"
        config = run.read_config(workdir)
        if not separator:
            task = next((t for t in TRANSFERS if TRANSFERS[t] == config["data"]["source"]), "")
        if task not in TRANSFERS:
            raise ValueError(
                f"--transfers {text}: on which data is it ({config['data']['source']})? Write "
                f"NAME=WORKDIR with NAME one of {', '.join(TRANSFERS)}"
            )
        model = config["architecture"], config["model"].get("variant"), tuple(config["image_size"])
        if model != ("mixer", name, image_size):
            raise ValueError(
                f"--transfers {text}: is a {model[0]} {model[1]} at {model[2]} pixels, the "
                f"checkpoint a mixer {name} at {image_size}"
            )
        accuracy = _last_test_accuracy(workdir)
        if accuracy is None:
            notes.append(f"{task}: the run in {workdir} is not finished")
            continue
        found.setdefault(task, []).append(accuracy)
        used = config["evals"]["test"].get("crop") or config["eval_crop"]
        if used != crop:
            notes.append(f"{task}: {workdir} was evaluated with the crop {used}, not {crop}")
    return {task: float(np.mean(found[task])) for task in TRANSFERS if task in found}, notes


def _last_test_accuracy(workdir: Path) -> float | None:
    """Per cent; None where the run has not ended."""
    if not run.is_finished(workdir):
        return None
    lines = [line for line in metrics.read(workdir) if "test/accuracy" in line]
    return 100 * lines[-1]["test/accuracy"] if lines else None


def _cells(label: str, *values: float | None) -> tuple[str, ...]:
    *accuracies, speed = values
    cells = [MISSING if value is None else f"{value:.2f}" for value in accuracies]
    return label, *cells, f"{speed:.0f}" if speed >= 100 else f"{speed:.1f}"


def _by(sides: Iterable[int]) -> str:
    return "x".join(map(str, sides))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those that only the suite has."""
    group = parser.add_argument_group("--suite=paper")
    group.add_argument(
        "--transfers", nargs="+", default=[], metavar="[NAME=]WORKDIR",
        help="sweeps or runs on CIFAR-10, CIFAR-100, Pets and Flowers, for Avg 5; of several on "
        "one data set the mean is taken",
    )  # fmt: skip
    group.add_argument(
        "--pretraining", choices=paper.DATA,
        help="which published row to show; by default as the weights' origin tells, or all",
    )  # fmt: skip
