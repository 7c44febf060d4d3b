"""TPU chips: their specifications, and how topologies of them are named.

Peak arithmetic, memory and bandwidth are from Google's pages on each generation
(cloud.google.com/tpu/docs/v3 and so on). What those do not say about v2 and v3 (links, memory
bandwidth) is from Jouppi et al. 2020, "A Domain-Specific Supercomputer for Training Deep Neural
Networks". The clock is the one at which the compiler's cycles for a large matrix multiplication
agree with the peak; for v2 and v3 it is the published one.
"""

import math
import re
from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """The specification of one chip.

    Attributes:
        cores: number of cores that a program sees as separate devices; 1 if a chip is one device.
        peak: bfloat16 operations a second.
        hbm: bytes of memory.
        hbm_rate: bytes a second between memory and cores.
        link_rate: bytes a second through one link to a neighbour, in one direction.
        mhz: clock of the compiler's cycles.
        wraps: the number of chips along an axis from which on its two ends are linked.
    """

    cores: int
    peak: float
    hbm: float
    hbm_rate: float
    link_rate: float
    mhz: float
    wraps: int


CHIPS = {
    "v2": Chip(2, 46e12, 16 * GIB, 700e9, 62e9, 700, 16),
    "v3": Chip(2, 123e12, 32 * GIB, 900e9, 82e9, 940, 32),
    "v4": Chip(1, 275e12, 32 * GIB, 1200e9, 50e9, 1050, 4),
    "v5e": Chip(1, 197e12, 16 * GIB, 819e9, 50e9, 1500, 16),
    "v5p": Chip(1, 459e12, 95 * GIB, 2765e9, 100e9, 1750, 4),
    "v6e": Chip(1, 918e12, 32 * GIB, 1638e9, 100e9, 1750, 16),
    "tpu7x": Chip(2, 2307e12, 192 * GIB, 7380e9, 100e9, 2200, 4),
}


@dataclass(frozen=True)
class Topology:
    """Chips and how they are linked, such as v5e:4x4.

    Attributes:
        name: the name that the compiler takes.
        kind: a key of CHIPS.
        shape: chips along each axis.
    """

    name: str
    kind: str
    shape: tuple[int, ...]

    @property
    def chip(self) -> Chip:
        return CHIPS[self.kind]

    @property
    def chips(self) -> int:
        return math.prod(self.shape)

    @property
    def devices(self) -> int:
        return self.chips * self.chip.cores

    @property
    def unit(self) -> str:
        """What a device is: "core" or "chip"."""
        return "core" if self.chip.cores > 1 else "chip"

    @property
    def peak(self) -> float:
        """bfloat16 operations a second of a device."""
        return self.chip.peak / self.chip.cores

    @property
    def hbm(self) -> float:
        """Bytes of memory of a device."""
        return self.chip.hbm / self.chip.cores

    @property
    def hbm_rate(self) -> float:
        """Bytes a second between a device and its memory."""
        return self.chip.hbm_rate / self.chip.cores

    @property
    def ici_rate(self) -> float:
        """Bytes a second that a chip sends to its neighbours in a sum over all axes."""
        # Three-dimensional slices are wired in whole cubes, in which every axis wraps.
        shortest = min(self.shape) if len(self.shape) == 3 else 0
        links = [2 if (shortest or n) >= self.chip.wraps else 1 for n in self.shape if n > 1]
        return sum(links) * self.chip.link_rate


def parse_topology(name: str) -> Topology:
    """Parses the name of a topology, such as v5e:4x4, v3:4x4 or v5p:2x2x1.

    Raises:
        ValueError: the name is not of this form, or the kind of chip is unknown.
    """
    found = re.fullmatch(r"(\w+):(\d+(?:x\d+){1,2})", name)
    if not found or found[1] not in CHIPS:
        raise ValueError(
            f"unknown topology {name!r}; write KIND:AxB or KIND:AxBxC, chips along each axis, with "
            f"KIND one of {', '.join(CHIPS)}, such as v5e:4x4 or v5p:2x2x1"
        )
    shape = tuple(map(int, found[2].split("x")))
    if not all(shape):
        raise ValueError(f"topology {name!r} has no chips along an axis")
    return Topology(name, found[1], shape)
