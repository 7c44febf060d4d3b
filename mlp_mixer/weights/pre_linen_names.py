"""The layout of files from before Flax Linen, as the loader of big_vision reads them.

A name is `Mixer/encoderblock_0/token_mixing_phase_0/kernel1` instead of
`MixerBlock_0/token_mixing/Dense_0/kernel`. Before Linen, children were numbered over all classes of
a module, so their numbers have gaps and need not begin at 0: only their order counts. The arrays of
the MLPs have singleton axes, whose place is not documented.
"""

import re
from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from mlp_mixer.weights.file_layout import FileLayout

_MLP = re.compile(r"Mixer/encoderblock_(\d+)/(token|channel)_mixing_phase_0/(kernel|bias)([12])")
_NORM = re.compile(r"Mixer/encoderblock_(\d+)/(LayerNorm_\d+/(?:scale|bias))")
_OUR_MLP = re.compile(r"MixerBlock_(\d+)/(token|channel)_mixing/Dense_([01])/(kernel|bias)")


def published_names(names: Iterable[str]) -> dict[str, str]:
    """Maps the names in a file to the published ones; one that no Mixer has maps to itself."""
    return {name: _published_name(new) for name, new in _renumbered(list(names)).items()}


def file_name(published: str) -> str:
    """Returns the name that a parameter has in this layout."""
    if m := _OUR_MLP.fullmatch(published):
        return f"Mixer/encoderblock_{m[1]}/{m[2]}_mixing_phase_0/{m[4]}{int(m[3]) + 1}"
    for ours, theirs in (
        ("MixerBlock_", "Mixer/encoderblock_"),
        ("pre_head_layer_norm/", "Mixer/encoder_norm/"),
        ("stem/", "embedding/"),
    ):
        if published.startswith(ours):
            return theirs + published.removeprefix(ours)
    return published


def arrange(published: str, array: np.ndarray) -> np.ndarray:
    """Removes the singleton axes of an MLP's array, the first ones first; returns a view."""
    if "_mixing/" not in published:
        return array
    while array.ndim > (2 if published.endswith("kernel") else 1) and 1 in array.shape:
        array = np.squeeze(array, axis=array.shape.index(1))
    return array


def rearrange(published: str, array: np.ndarray) -> np.ndarray:
    """Adds the leading singleton axis that an MLP's arrays have in this layout; returns a view."""
    return array[None] if "_mixing/" in published else array


LAYOUT = FileLayout("pre-linen", "Mixer/", published_names, file_name, arrange, rearrange)


def _published_name(name: str) -> str:
    if m := _MLP.fullmatch(name):
        return f"MixerBlock_{m[1]}/{m[2]}_mixing/Dense_{int(m[4]) - 1}/{m[3]}"
    if m := _NORM.fullmatch(name):
        return f"MixerBlock_{m[1]}/{m[2]}"
    for theirs, ours in (("Mixer/encoder_norm/", "pre_head_layer_norm/"), ("embedding/", "stem/")):
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def _renumbered(names: list[str]) -> dict[str, str]:
    """Maps names to names in which the children of each parent are counted from 0."""
    number = re.compile(r"_(\d+)(?=/)")
    children: dict[str, set[int]] = defaultdict(set)  # by the path up to the number
    for name in names:
        for m in number.finditer(name):
            children[name[: m.start()]].add(int(m[1]))
    rank = {path: {n: i for i, n in enumerate(sorted(ns))} for path, ns in children.items()}

    def renumbered(name: str) -> str:
        return number.sub(lambda m: f"_{rank[name[: m.start()]][int(m[1])]}", name)

    return {name: renumbered(name) for name in names}
