"""Describes a weight file: variant, sizes, parameters, origin, and statistics of each array."""

import math
from collections.abc import Iterator
from os import PathLike, fspath
from typing import NamedTuple

import numpy as np

from mlp_mixer.models import mixer
from mlp_mixer.models.init import shapes
from mlp_mixer.runtime.storage import size
from mlp_mixer.weights import load, naming, of_runs, pixel_range
from mlp_mixer.weights.files import OpenWeights, open_weights
from mlp_mixer.weights.finite import not_finite


class Description(NamedTuple):
    """What `describe` finds.

    Attributes:
        facts: pairs of a topic, such as "variant" or "sha256", and what is known of it, in words;
            a topic may appear several times.
        arrays: a table with a heading: name, shape, mean, standard deviation, range, and the number
            of elements that are not finite, if any.
        not_finite: names of the arrays with such elements; `load` refuses them.
    """

    facts: list[tuple[str, str]]
    arrays: list[tuple[str, ...]]
    not_finite: list[str]


def describe(source: str | PathLike) -> Description:
    """Describes weights, with statistics of each array.

    Args:
        source: one that `mlp_mixer.load` reads.

    Raises:
        FileNotFoundError, ValueError, OSError: as for `load`, except that numbers that are not
            finite are reported and not refused.
    """
    source = fspath(source)
    with open_weights(source) as opened:
        if opened.config.get("architecture", "mixer") != "mixer":
            raise ValueError(f"{source} is {of_runs.kind(opened.config)}; inspect is for Mixers")
        found = load.recognise(opened)
        rows: list[tuple[str, ...]] = []
        rows.append(("array", "shape", "mean", "std", "smallest", "largest", "not finite"))
        bad = []
        for name, entry in found.entries.items():
            array = opened.read(entry.name)
            rows.append((name, "x".join(map(str, entry.arrange(array).shape)), *_statistics(array)))
            if rows[-1][-1]:
                bad.append(name)
        return Description([*_facts(opened, found), *_history(opened)], rows, bad)


def _facts(source: OpenWeights, found: naming.Recognised) -> Iterator[tuple[str, str]]:
    module = found.module
    variant = mixer.variant_of(module)
    dtypes = sorted({source.arrays[entry.name].dtype.name for entry in found.entries.values()})
    count = sum(math.prod(shape) for shape in shapes(module).values())
    known = "" if "image_size" in source.settings else " (taken to be square)"
    gelu, stated = source.settings.get("gelu"), "as the source says"
    yield "source", source.name
    if str(source.where) != source.name:
        yield "file", str(source.where)
    if source.where.is_file():
        yield "bytes", f"{size(source.where):,}"
    yield "sha256", source.sha256()
    yield "format", f"{source.format}, {found.layout} names, {', '.join(dtypes)}"
    yield "variant", f"Mixer-{variant}" if variant else "none of the published ones"
    yield (
        "image",
        "{}x{} pixels, {} channels{}".format(*module.image_size, module.image_channels, known),
    )
    yield "patches", "{}x{} pixels, {}x{} of them".format(*module.patch_size, *module.grid)
    yield "classes", f"{module.num_classes:,}" if module.num_classes else "no head"
    yield "blocks", f"{module.num_blocks}, of width {module.hidden_dim}"
    yield "MLP widths", f"tokens {module.tokens_mlp_dim}, channels {module.channels_mlp_dim}"
    yield "parameters", f"{count:,}"
    yield "GELU", f"{gelu or load.default_gelu(found.layout)} ({stated if gelu else 'by default'})"
    if (low_high := load.trained_range(source)) != pixel_range.RANGE:
        yield "pixels", "{} to {} (load makes them [-1, 1])".format(*low_high)
    lasting = load.lasting_settings(source, module.num_classes)
    if names := lasting.get("class_names"):
        yield "class names", ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    if "crop" in lasting or "crop_fraction" in lasting:
        yield "evaluated", f"crop {lasting.get('crop', '?')} {lasting.get('crop_fraction', '?')}"
    if "loss" in lasting:
        yield "trained with", f"{lasting['loss']} loss"
    if unusual := of_runs.kind(source.config):
        yield "unusual", unusual


def _history(source: OpenWeights) -> Iterator[tuple[str, str]]:
    for step in source.settings.get("history", []):
        yield "made from", f"{step['source']} (sha256 {step['sha256'][:16]}...)"
        yield "", "; ".join(step["changes"])


def _statistics(array: np.ndarray) -> tuple[str, ...]:
    """Returns mean, deviation and range of the finite numbers, and how many are not, if any."""
    numbers = array.astype(np.float32, copy=False)
    if count := not_finite(numbers):
        numbers = numbers[np.isfinite(numbers)]
    if not numbers.size:
        return ("-", "-", "-", "-", f"{count:,}")
    values = (numbers.mean(dtype=np.float64), numbers.std(dtype=np.float64),
              numbers.min(), numbers.max())  # fmt: skip
    return (*(f"{value:.4g}" for value in values), f"{count:,}" if count else "")
