"""Weights that come with the package, by short names like those of `released`.

They were trained with this code. docs/results/mixer_nano.md says how, and how accurate they are.
"""

from pathlib import Path

INCLUDED = ("cifar10/Mixer-nano",)


def path_of(name: str) -> Path:
    """Returns the file of one of INCLUDED."""
    return Path(__file__).parent / f"{name.replace('/', '_')}.npz"
