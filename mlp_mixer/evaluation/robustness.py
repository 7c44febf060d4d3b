"""Measures one model on the sets of `data.robustness_sets`, and on corrupted images.

ImageNet-A and -R have images of 200 classes each. Every image is seen once, and its accuracy is
counted both by the largest of those 200 logits and by the largest of all 1,000.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mlp_mixer.data import corruptions
from mlp_mixer.data.folders import FolderClasses
from mlp_mixer.data.images import BrokenImage
from mlp_mixer.data.robustness_sets import IMAGENET, REAL, SETS, open_classes
from mlp_mixer.data.sources import Source
from mlp_mixer.evaluation.classification import Classification
from mlp_mixer.evaluation.corruption_error import Corrupted
from mlp_mixer.models.class_names import match
from mlp_mixer.runtime.mesh import everywhere, make_mesh

log = logging.getLogger(__name__)

C = "C"  # ImageNet-C's name among the sets
# By name of a set, the key of what is measured on it; by default the name in small letters.
_KEYS = {"v2-threshold-0.7": "v2_threshold", "v2-topimages": "v2_top"}


class RobustnessEvaluation:
    """Evaluates a model on set after set; it is compiled once.

    Attributes:
        remarks: sets that are not whole.
        missing: what could not be measured, and how to get it.
    """

    def __init__(
        self,
        module: Any,
        params: Any,
        class_names: Sequence[str] | None,
        classes: FolderClasses,
        *,
        imagenet_at: np.ndarray | None = None,
        model_is: str = "the model",
        crop: str = "resmall",
        crop_fraction: float = 1.0,
        loss: str = "softmax",
        batch_size: int = 64,
        workers: int = 0,
    ):
        """Prepares the evaluation of a model.

        Args:
            module: the model.
            params: its parameters.
            class_names: names of its outputs, if known.
            classes: those of class folders.
            imagenet_at: places of ImageNet's 1,000 classes among the outputs, int [1000]; None for
                a model of other classes.
            model_is: what to call the model in messages.
            crop, crop_fraction: how images are cropped, but for corrupted ones.
            loss: the loss that the model was trained with.
            batch_size: images at a time.
            workers: see `data.pipeline.Reading`.
        """
        self.remarks: list[str] = []
        self.missing: list[str] = []
        self._module, self._class_names, self._classes = module, class_names, classes
        self._model_is, self._view = model_is, (crop, crop_fraction)
        self._of_imagenet = imagenet_at is not None
        self._subsets = {}
        if imagenet_at is not None:
            of_some = {name: one.classes for name, one in SETS.items() if one.classes}
            self._subsets = {name: imagenet_at[list(few)] for name, few in of_some.items()}
        self._how: dict[str, Any] = dict(
            batch_size=batch_size, loss=loss, class_names=class_names, model_is=model_is,
            subsets=self._subsets, workers=workers,
        )  # fmt: skip
        self._mesh = make_mesh()
        self._params = jax.device_put(params, everywhere(self._mesh))
        self._evaluation: Classification | None = None

    def open(self, spec: str, split: str) -> Source:
        """Opens a source, whose classes have to be the model's."""
        source = open_classes(spec, split, self._module.image_channels, self._classes)
        outputs = self._class_names or self._module.num_classes
        match(outputs, source.class_names, self._model_is, source.name)
        return source

    def open_sets(self, places: Mapping[str, str]) -> dict[str, Source]:
        """Opens sets by name, and notes those that are not there.

        Args:
            places: the data source of each set to open; "" for TFDS's.

        Raises:
            ValueError, OSError: a source that was given cannot be used.
        """
        opened = {}
        for name, one in SETS.items():
            if name not in places:
                continue
            given = places[name]
            split = "real" if name == REAL and given else one.split
            try:
                opened[name] = self.open(given or one.source, split)
            except (ValueError, OSError) as error:
                if given and name != REAL:
                    raise
                self._note_absence(one.title, error, "" if given else one.how_to_get(name))
        return opened

    def find_corrupted(self, spec: str) -> list[corruptions.CorruptedSet]:
        """Finds the corrupted images at `spec`; if it is "" and TFDS has none, notes that.

        Raises:
            ValueError, OSError: there are none where they were said to be.
        """
        try:
            return corruptions.find(spec or corruptions.IMAGENET_C)
        except (ValueError, OSError) as error:
            if spec:
                raise
            self._note_absence("ImageNet-C", error, corruptions.HOW_TO_GET_C)
            return []

    def measure(self, name: str, source: Source) -> dict[str, float]:
        """Measures the accuracy on one set as shares, by what it is; {} if that is impossible."""
        one, key = SETS[name], _KEYS.get(name, name.lower())
        try:
            found = self._run(source)
        except (BrokenImage, OSError) as error:
            self.missing.append(f"{one.title}: {error}")
            return {}
        images = int(found["examples"])
        if one.classes and found.get(f"{name}/examples") != images:
            self.missing.append(
                f"{one.title}: {source.name} has images of classes that {one.title} has not"
            )
            return {}
        if images != one.images:
            self.remarks.append(f"{one.title}: {images:,} of its {one.images:,} images")
        if one.classes:
            of_200 = found[f"{name}/accuracy"]
            log.info("%s: %.2f %% of its 200 classes, %.2f %% of all 1,000", one.title,
                     100 * of_200, 100 * found["accuracy"])  # fmt: skip
            return {key: of_200, f"{key}_of_1000": found["accuracy"]}
        log.info("%s: %.2f %%", one.title, 100 * found["accuracy"])
        shares = {key: found["accuracy"]}
        if name == IMAGENET:  # also by the logits of the sets that have not all classes
            shares |= {
                f"{subset.lower()}_clean": found[f"{subset}/accuracy"]
                for subset in self._subsets
                if f"{subset}/accuracy" in found
            }
        return shares

    def measure_corrupted(self, sets: Sequence[corruptions.CorruptedSet]) -> Corrupted:
        """Measures the accuracy on each corruption at each severity; images are only resized."""
        accuracy: dict[str, dict[int, float]] = {}
        counts = set()
        for one in sets:
            try:
                found = self._run(self.open(one.source, one.split), "resmall", 1.0)
            except (BrokenImage, OSError) as error:
                self.missing.append(f"{one.corruption} {one.severity}: {error}")
                continue
            log.info("%s %d: %.2f %%", one.corruption, one.severity, 100 * found["accuracy"])
            accuracy.setdefault(one.corruption, {})[one.severity] = found["accuracy"]
            counts.add(int(found["examples"]))
        if self._of_imagenet and counts - {corruptions.IMAGES_OF_C}:
            self.remarks.append(
                f"ImageNet-C: as few as {min(counts):,} of {corruptions.IMAGES_OF_C:,} images of a "
                "corruption and severity"
            )
        return Corrupted(accuracy, self._of_imagenet)

    def _run(self, source: Source, *view: Any) -> dict[str, float]:
        self._evaluation = self._evaluation or Classification(
            self._module, source, self._mesh, **self._how
        )
        return self._evaluation.on(source, *(view or self._view)).run(self._params)

    def _note_absence(self, title: str, error: Exception, how_to_get: str) -> None:
        reason = str(error).partition("\n")[0].removesuffix(" Once:").rstrip(".")
        hint = f". To get it: {how_to_get}" if how_to_get else ""
        self.missing.append(f"{title}: {reason}{hint}")
