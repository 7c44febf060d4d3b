"""Accuracy on images unlike those a classifier of ImageNet was trained on, and on corrupted ones.

`measure` evaluates one model on ImageNet-v2, -A, -R, -Sketch and -C beside ImageNet itself, as
`evaluate --suite=robustness` does. docs/reference/evaluation.md describes the sets and protocols.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from os import PathLike, fspath
from typing import Any

import numpy as np

from mlp_mixer.analysis import published_robustness, suite
from mlp_mixer.analysis.robustness_table import Robustness
from mlp_mixer.data import corruptions
from mlp_mixer.data.crews import keep_processes
from mlp_mixer.data.folders import FolderClasses
from mlp_mixer.data.images import Crop, check_crop
from mlp_mixer.data.robustness_sets import IMAGENET, REAL, SETS
from mlp_mixer.evaluation.corruption_error import Corrupted
from mlp_mixer.evaluation.robustness import C, RobustnessEvaluation
from mlp_mixer.inference.classifier import Classifier, load_classifier
from mlp_mixer.inference.measure import Evaluation, evaluate, workers_of
from mlp_mixer.models import mixer, vit
from mlp_mixer.models.class_names import match
from mlp_mixer.models.dtypes import Dtype
from mlp_mixer.models.known_classes import imagenet
from mlp_mixer.weights.resize import Resize

log = logging.getLogger(__name__)

NAMES = (*(name for name in SETS if name not in (IMAGENET, REAL)), C)


def measure(
    checkpoint: str | PathLike,
    source: str | None = None,
    *,
    sets: Sequence[str] = (),
    crop: Crop | None = None,
    crop_fraction: float | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    patch_size: int | tuple[int, int] | None = None,
    resize: Resize = "auto",
    dtype: Dtype = "auto",
) -> Robustness:
    """Measures a classifier of ImageNet on images unlike ImageNet's, each image seen once.

    The sets are ImageNet-v2 (three), -A, -R, -Sketch and -C, beside ImageNet's validation images.
    One that is not there is left out, and `missing` says how to get it. The result of each set is
    logged as soon as it is measured.

    A classifier of other classes can be measured on corrupted images of these: give `sets` as
    ["C=folder:PATH"].

    Args:
        checkpoint: weights of any source that `mlp_mixer.load` reads.
        source: data source of ImageNet, by default tfds:imagenet2012. For other classes it is the
            clean data set, by default the run's own.
        sets: NAME or NAME=SOURCE of the sets to measure beside ImageNet, with NAME one of v2,
            v2-threshold-0.7, v2-topimages, A, R, Sketch and C; by default all, as TFDS has
            prepared them.
        crop: "resmall" keeps the aspect ratio when images are resized, "resize" does not; by
            default as the weights say. Images of C are cropped already.
        crop_fraction: share of each side of the resized image that is seen; likewise.
        batch_size: images at a time.
        workers: processes that load images; see `evaluate`.
        image_size: the model's, if another than the weights'; see `mlp_mixer.load`.
        patch_size: likewise.
        resize: how weights are adapted to other sizes, "auto", "tile" or "resample".
        dtype: number type of the computation; see `inference.classifier.computing_in`.

    Raises:
        ValueError: the model has other classes, the crop is not one, or a source that was given is
            unusable.
        FileNotFoundError: there are no such weights, or no such folder.
    """
    places = _parse(sets)
    how: dict[str, Any] = dict(
        image_size=image_size, patch_size=patch_size, resize=resize, dtype=dtype
    )
    classifier = load_classifier(checkpoint, **how)
    fraction = classifier.crop_fraction if crop_fraction is None else crop_fraction
    classifier = replace(classifier, crop=crop or classifier.crop, crop_fraction=fraction)
    check_crop(classifier.crop, classifier.crop_fraction)
    workers = workers_of(checkpoint, workers)
    reading: dict[str, Any] = dict(batch_size=batch_size, workers=workers)
    outputs = classifier.class_names or classifier.module.num_classes
    try:
        order = match(outputs, imagenet().ids, fspath(checkpoint), IMAGENET)
    except ValueError as error:
        if set(places) != {C} or not places[C]:
            raise ValueError(
                f"{error}. The suite is for classifiers of ImageNet's classes; of others it "
                "measures corrupted images only, with --sets C=SOURCE"
            ) from error
        clean = partial(
            evaluate, checkpoint, source, crop=crop, crop_fraction=crop_fraction, **reading, **how
        )
        with keep_processes(workers):
            return _of_other_classes(
                classifier, checkpoint, places[C], reading, clean, is_given=bool(source)
            )
    with keep_processes(workers):
        return _of_imagenet(classifier, checkpoint, source, places, order, reading)


def _parse(sets: Sequence[str]) -> dict[str, str]:
    """Returns the source of each set by its name; "" for TFDS's."""
    places = {}
    for text in sets or NAMES:
        name, _, spec = text.partition("=")
        if name not in NAMES:
            raise ValueError(f"--sets {text}: there is no set {name!r}; use {', '.join(NAMES)}")
        places[name] = spec
    return places


def _prepare(
    classifier: Classifier, checkpoint: str | PathLike, classes: FolderClasses, **how: Any
) -> RobustnessEvaluation:
    return RobustnessEvaluation(
        classifier.module, classifier.params, classifier.class_names, classes,
        model_is=fspath(checkpoint), crop=classifier.crop, crop_fraction=classifier.crop_fraction,
        loss=classifier.loss, **how,
    )  # fmt: skip


def _of_imagenet(
    classifier: Classifier,
    checkpoint: str | PathLike,
    source: str | None,
    places: dict[str, str],
    order: np.ndarray | None,
    reading: dict[str, Any],
) -> Robustness:
    """Measures a classifier of ImageNet's classes, which are in the given order of its outputs."""
    ids = imagenet().ids
    at = np.arange(len(ids)) if order is None else order
    classifier = replace(classifier, class_names=classifier.class_names or ids)
    classes = FolderClasses(ids, ids, IMAGENET)
    evaluation = _prepare(classifier, checkpoint, classes, imagenet_at=at, **reading)
    clean = {IMAGENET: source or "", REAL: ""}
    if source and source.startswith("folder:"):
        clean[REAL] = source
    opened = evaluation.open_sets(clean | places)
    corrupted_sets = evaluation.find_corrupted(places[C]) if C in places else []

    shares: dict[str, float] = {}
    for name, one in opened.items():
        shares |= evaluation.measure(name, one)
    corrupted = None
    if corrupted_sets:
        corrupted = evaluation.measure_corrupted(corrupted_sets)
        shares |= _summary(corrupted, shares.get("imagenet"))
    measured = {key: 100 * share for key, share in shares.items()}

    model = _model_name(classifier.module)
    published = published_robustness.of_model(model)
    fits = published_robustness.of_file(fspath(checkpoint))
    remarks = [
        *evaluation.remarks,
        *(_incomplete(corrupted) if corrupted else []),
        f"crop: {classifier.crop} {classifier.crop_fraction:g}; of C none, as its images are "
        "cropped already",
        *(f"[{name}]: {text}" for name, text in published_robustness.sources(published)),
        *(["*: the published figures of these very weights"] if fits else []),
    ]
    if not published:
        remarks.append(
            f"no published figures of {model or 'this model'}; "
            "docs/results/published_robustness.md has those of others"
        )
    return Robustness(measured, corrupted, published, fits, remarks, evaluation.missing)


def _of_other_classes(
    classifier: Classifier,
    checkpoint: str | PathLike,
    spec: str,
    reading: dict[str, Any],
    evaluate_clean: Callable[[], Evaluation],
    is_given: bool,
) -> Robustness:
    """Measures a model on corrupted images of its own classes, and on clean ones.

    If the source of the clean images was not given, it may be unknown.
    """
    names = classifier.class_names or ()
    classes = FolderClasses(names, names, fspath(checkpoint))
    if spec.startswith("folder:"):
        classes = corruptions.folder_classes(spec, names, fspath(checkpoint))
    evaluation = _prepare(classifier, checkpoint, classes, **reading)
    sets = evaluation.find_corrupted(spec)
    evaluation.open(sets[0].source, sets[0].split)  # before anything takes long
    shares, missing = {}, []
    try:
        clean = evaluate_clean()
        shares["clean"] = clean.accuracy
        log.info("%s: %.2f %%", clean.source, 100 * clean.accuracy)
    except (ValueError, OSError) as error:
        if is_given:
            raise
        missing.append(f"clean images: {error}")
    corrupted = evaluation.measure_corrupted(sets)
    shares |= _summary(corrupted, None)
    remarks = [
        *_incomplete(corrupted),
        "no mCE: it divides by the errors of a baseline, and those of AlexNet are for ImageNet",
    ]
    measured = {key: 100 * share for key, share in shares.items()}
    return Robustness(measured, corrupted, [], None, remarks, missing + evaluation.missing)


def _summary(corrupted: Corrupted, clean: float | None) -> dict[str, float]:
    """Returns those of the means over corruptions that can be computed, as shares."""
    found = {"c": corrupted.mean(), "mce": corrupted.mce()}
    if clean is not None:
        found["relative_mce"] = corrupted.relative_mce(clean)
    return {key: value for key, value in found.items() if value is not None}


def _incomplete(corrupted: Corrupted) -> list[str]:
    if not corrupted.missing:
        return []
    return [
        "no mean accuracy or mCE of C, as not all 15 corruptions are there at all 5 severities: it "
        f"lacks {', '.join(corrupted.missing)}"
    ]


def _model_name(module: Any) -> str | None:
    """Returns the name of the model in published tables, such as "Mixer-B/16"."""
    if isinstance(module, mixer.MlpMixer) and (variant := suite.variant(module)):
        return f"Mixer-{variant}"
    if isinstance(module, vit.VisionTransformer) and (variant := vit.variant_of(module)):
        return f"ViT-{variant}"
    return None
