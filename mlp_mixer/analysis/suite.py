"""A model's row of the paper's Table 3, beside the published one: `evaluate --suite=paper`.

Numbers that cannot be measured, for lack of a data set or a transfer, are dashes with a reason.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from os import PathLike, fspath
from typing import Any

import jax
import numpy as np

from mlp_mixer.analysis import table_3
from mlp_mixer.data import sources
from mlp_mixer.data.crews import keep_processes
from mlp_mixer.data.images import Crop, check_crop
from mlp_mixer.data.paper_sets import AVG_5, name_of, split_name
from mlp_mixer.evaluation import throughput
from mlp_mixer.evaluation.classification import Classification
from mlp_mixer.inference.classifier import Classifier, load_classifier
from mlp_mixer.inference.measure import workers_of
from mlp_mixer.models import mixer
from mlp_mixer.models.dtypes import Dtype
from mlp_mixer.runs import metrics
from mlp_mixer.runs.folder import is_finished, read_config, workdir_of
from mlp_mixer.runtime.mesh import make_mesh
from mlp_mixer.runtime.storage import AnyPath, as_path
from mlp_mixer.training import fields, sweep
from mlp_mixer.training.recipe import make_model
from mlp_mixer.weights.released import RELEASED
from mlp_mixer.weights.resize import Resize

IMAGENET, REAL = AVG_5["ImageNet"], "tfds:imagenet2012_real"
TRANSFERS = {name: source for name, source in AVG_5.items() if name != "ImageNet"}
CROP: Crop = "resmall"  # as in Table 3
CROP_FRACTION = 0.875
PRETRAINED_ON = {"imagenet1k": "ImageNet", "imagenet21k": "ImageNet-21k"}  # folders of RELEASED
COLUMNS = ("ImageNet", "ReaL", "Avg 5")
MISSING = "–"


@dataclass(frozen=True)
class Suite:
    """A model's row of Table 3, beside the published ones.

    Attributes:
        rows: the cells of a table, with a heading.
        remarks: how the numbers were measured.
        missing: what could not be measured, and why.
    """

    rows: list[tuple[str, ...]]
    remarks: list[str]
    missing: list[str]


def measure(
    checkpoint: str | PathLike,
    *,
    source: str | None = None,
    transfers: Sequence[str] = (),
    pretraining: str | None = None,
    crop: Crop | None = None,
    crop_fraction: float | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    patch_size: int | tuple[int, int] | None = None,
    resize: Resize = "auto",
    dtype: Dtype = "auto",
) -> Suite:
    """Measures as much as possible of a model's row of Table 3.

    Args:
        checkpoint, image_size, patch_size, resize: see `load`.
        source: data source of ImageNet; by default tfds:imagenet2012.
        transfers: [NAME=]WORKDIR of sweeps or runs on CIFAR-10, CIFAR-100, Pets and Flowers.
        pretraining: which published rows to show, one of table_3.DATA; by default those of the
            weights' own pretraining if it is known, else all.
        crop, crop_fraction: how images are cropped; by default as in Table 3.
        batch_size: batch size of the evaluation.
        workers: processes that load images; see `evaluate`.
        dtype: number type of the computation, of the images a second too; see `load_classifier`.

    Raises:
        ValueError: the model is not a Mixer, the crop is not one, or a transfer is of another
            model or on another data set.
    """
    classifier = load_classifier(
        checkpoint, image_size=image_size, patch_size=patch_size, resize=resize, dtype=dtype
    )
    fraction = CROP_FRACTION if crop_fraction is None else crop_fraction
    classifier = replace(classifier, crop=crop or CROP, crop_fraction=fraction)
    check_crop(classifier.crop, classifier.crop_fraction)
    module = classifier.module
    if not isinstance(module, mixer.MlpMixer):
        raise ValueError(
            f"{fspath(checkpoint)} is a {type(module).__name__}; the suite is for Mixers that see "
            "pixels in their order"
        )
    name = variant(module)
    others, notes = _read_transfers(transfers, module, classifier.crop)
    workers = workers_of(checkpoint, workers)
    with keep_processes(workers):
        found = _accuracies(classifier, checkpoint, source or IMAGENET, batch_size, workers, notes)
    if missing := [task for task in TRANSFERS if task not in others]:
        notes.append(f"Avg 5: needs --transfers with finished runs on {', '.join(missing)}")
    elif "ImageNet" in found:
        found["Avg 5"] = float(np.mean([found["ImageNet"], *others.values()]))
    speed = throughput.measure(module, classifier.params)

    rows = [
        ("", *COLUMNS, "images/s"),
        _cells("this model", map(found.get, COLUMNS), speed.images_per_second),
    ]
    data = pretraining or pretrained_on(checkpoint)
    for row in table_3.published(f"Mixer-{name}", module.image_size[0], data):
        label = f"published: {row.model}, {row.data}, {row.px} px, {row.epochs} epochs"
        rows.append(_cells(label, (row.imagenet, row.real, row.avg5), row.throughput))
    seen = _by(module.image_size)
    if len(rows) == 2:
        notes.append(
            f"published: Table 3 has no Mixer {name or 'of these widths'} at {seen} pixels"
            + (f" from {data}" if data else "")
        )
    resized = _by(round(side / classifier.crop_fraction) for side in module.image_size)
    device = jax.local_devices()[0]
    remarks = [
        f"crop: {classifier.crop}, to {resized} and the middle {seen} of it. Table 3 has "
        "resmall, to 256x256 and 224x224 of it; Table 2 has resize.",
        f"images/s: here on one {device.device_kind} ({device.platform}) in "
        f"{np.dtype(module.dtype).name}, at batch size {speed.batch_size}; published on one TPUv3 "
        "core.",
        *(f"{task}: {value:.2f}" for task, value in others.items()),
    ]
    return Suite(rows, remarks, notes)


def variant(module: mixer.MlpMixer) -> str | None:
    """Returns the variant, such as "L/16", even of a model that was widened for larger images.

    It is read off the module's sizes: a config may name a variant and then change its widths.
    """
    height, width = module.image_size
    for times in (1, (height // 224) * (width // 224)):
        narrow = module.clone(tokens_mlp_dim=module.tokens_mlp_dim // max(times, 1))
        if name := mixer.variant_of(narrow):
            return name
    return None


def pretrained_on(checkpoint: str | PathLike) -> str | None:
    """Returns Table 3's name of the data that released weights, or a run's init_from, come from.

    None if it is not known.
    """
    workdir = workdir_of(checkpoint)
    origin = str(read_config(workdir).get("init_from") if workdir else fspath(checkpoint))
    return PRETRAINED_ON.get(origin.partition("/")[0]) if origin in RELEASED else None


def _accuracies(
    classifier: Classifier,
    checkpoint: str | PathLike,
    imagenet: str,
    batch_size: int,
    workers: int,
    notes: list[str],
) -> dict[str, float]:
    """Measures accuracies in per cent on ImageNet and ReaL; if one is impossible, notes why."""
    real = (imagenet, "real") if imagenet.startswith("folder:") else (REAL, "validation")
    found = {}
    for column, where in {"ImageNet": (imagenet, "validation"), "ReaL": real}.items():
        try:
            evaluation = Classification(
                classifier.module,
                sources.open_source(*where, classifier.module.image_channels),
                make_mesh(),
                batch_size=batch_size,
                crop=classifier.crop,
                crop_fraction=classifier.crop_fraction,
                loss=classifier.loss,
                workers=workers,
                class_names=classifier.class_names,
                model_is=fspath(checkpoint),
            )
            found[column] = 100 * evaluation.run(classifier.params)["accuracy"]
        except (ValueError, OSError) as error:
            notes.append(f"{column}: {error}")
    return found


def _read_transfers(
    workdirs: Sequence[str], module: mixer.MlpMixer, crop: str
) -> tuple[dict[str, float], list[str]]:
    """Reads test accuracies in per cent by data set, each the mean of its runs, and makes notes."""
    found: dict[str, list[float]] = {}
    notes = []
    for text in workdirs:
        workdir = as_path(split_name(text)[1])
        if (workdir / sweep.FULL).is_dir():
            workdir /= sweep.FULL
        config = read_config(workdir)
        task = name_of(text, config["data"]["source"], TRANSFERS)
        model = _in_words(make_model(fields.restored(config), num_classes=1))  # or any number
        if model != _in_words(module):
            raise ValueError(
                f"--transfers {text}: is a {model}, the checkpoint a {_in_words(module)}; give "
                "transfers of the checkpoint's model"
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


def _in_words(module: Any) -> str:
    """Says which model a module is, and at what size, such as "Mixer B/16 at 224x224 pixels"."""
    if not isinstance(module, mixer.MlpMixer):
        return f"{type(module).__name__}, which is no Mixer"
    name = variant(module)
    if not name:
        widths = [f"{field}={getattr(module, field)}" for field in mixer.SIZES["B"]]
        name = f"of {', '.join(widths)} in patches of {_by(module.patch_size)}"
    return f"Mixer {name} at {_by(module.image_size)} pixels"


def _last_test_accuracy(workdir: AnyPath) -> float | None:
    """Returns the accuracy in per cent; None if the run has not finished."""
    if not is_finished(workdir):
        return None
    lines = [line for line in metrics.read(workdir) if "test/accuracy" in line]
    return 100 * lines[-1]["test/accuracy"] if lines else None


def _cells(label: str, accuracies: Iterable[float | None], speed: float) -> tuple[str, ...]:
    cells = [MISSING if value is None else f"{value:.2f}" for value in accuracies]
    return label, *cells, f"{speed:.0f}" if speed >= 100 else f"{speed:.1f}"


def _by(sides: Iterable[int]) -> str:
    return "x".join(map(str, sides))
