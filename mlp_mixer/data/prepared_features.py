"""The features of a TFDS data set: which is the image, which the label, and how to parse them."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from mlp_mixer.data import vtab


def find_image(name: str, info: Any) -> str:
    """Returns the key of the image: what the data set declares, else "image", else its only one.

    Args:
        name: name of the data set, for messages.
        info: its tfds.core.DatasetInfo.

    Raises:
        ValueError: there is no image, or none of several can be preferred.
    """
    candidates = [key for key, feature in info.features.items() if _is_image(feature)]
    for key in [*(info.supervised_keys or ())[:1], "image"]:
        if key in candidates:
            return key
    if len(candidates) == 1:
        return candidates[0]
    raise ValueError(
        f"{name} has no single image; its features are {', '.join(sorted(info.features))}"
    )


def find_label(name: str, info: Any) -> str:
    """Returns the key of the label: what the data set declares, else "label", else its only one.

    Args:
        name: name of the data set, for messages.
        info: its tfds.core.DatasetInfo.

    Raises:
        ValueError: there is no label, or none of several can be preferred; says how to choose one.
    """
    candidates = sorted(key for key, f in info.features.items() if find_classes(f) is not None)
    for key in [*(info.supervised_keys or ())[1:2], "label"]:
        if key in candidates:
            return key
    if len(candidates) == 1:
        return candidates[0]
    raise ValueError(
        f"{name} has no single label; its features are {', '.join(sorted(info.features))}. "
        + (f"Choose one: {name}#{candidates[0]}. " if candidates else "")
        + f"The tasks of VTAB are vtab:TASK with one of {', '.join(vtab.TASKS)}"
    )


def find_classes(feature: Any) -> Any | None:
    """Returns the tfds.features.ClassLabel of a class or a sequence of classes; None of others."""
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.Sequence):
        feature = feature.feature
    return feature if isinstance(feature, tfds.features.ClassLabel) else None


def make_parser(features: Any, keys: list[str]) -> Callable[[bytes], dict[str, Any]]:
    """Makes a function that parses only some features of a record, and leaves images encoded."""
    import tensorflow_datasets as tfds

    wanted = tfds.features.FeaturesDict({key: features[key] for key in keys})
    skip = {
        key: tfds.decode.SkipDecoding()
        for key in keys
        if isinstance(features[key], tfds.features.Image)
    }
    # A partial of a method can be pickled, as worker processes need it.
    return functools.partial(wanted.deserialize_example_np, decoders=skip)


def _is_image(feature: Any) -> bool:
    """Returns whether a feature is an encoded image, or an array uint8 [h, w] or [h, w, c]."""
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.Tensor):
        return feature.np_dtype == np.uint8 and len(feature.shape) in (2, 3)
    return isinstance(feature, tfds.features.Image)
