"""Estimates time and throughput from what the compiler says about a program."""

from dataclasses import dataclass

from mlp_mixer.planning import hlo
from mlp_mixer.planning.chips import Topology
from mlp_mixer.planning.compiler import Program

# Printed with every plan.
LEFT_OUT = """\
What this leaves out: loading, augmenting and transferring images, starting each step, evaluations
and checkpoints, and clocks that throttle. Communication overlaps with computation only where the
compiler has fused the two. Cycles are the compiler's estimate and not a measurement: differences
below 5 % are noise, and it counts bfloat16 as no faster than float32 where memory is the limit. On
a real TPU measure with --config.profile_steps."""

# The share of HBM that programs cannot use: a v5e has 15.75 of its 16 GiB for them.
RESERVED = 1 / 64


@dataclass(frozen=True)
class Estimate:
    """The cost of one program on one topology.

    Attributes:
        program: the compiled program.
        topology: the topology that it was compiled for.
        images: number of images in a step, over all devices.
    """

    program: Program
    topology: Topology
    images: int

    @property
    def memory(self) -> float:
        """Bytes of a device's memory that the program needs."""
        return sum(self.program.memory.values())

    @property
    def capacity(self) -> float:
        """Bytes of a device's memory that a program can use."""
        return self.topology.hbm * (1 - RESERVED)

    @property
    def core_seconds(self) -> float:
        """Time of a step by the compiler's cycles: arithmetic, element-wise work, padding."""
        return self.program.cycles / (self.topology.chip.mhz * 1e6)

    @property
    def hbm_seconds(self) -> float:
        """Time of a step if memory bandwidth were the only limit."""
        return self.program.hbm_bytes / self.topology.hbm_rate

    @property
    def ici_seconds(self) -> float:
        """Time of all communication in a step."""
        return sum(ici_seconds(c, self.topology) for c in self.program.collectives)

    @property
    def waiting_seconds(self) -> float:
        """Time of a step in which there is only communication.

        A collective that the compiler has fused into operations takes as long as they do, or
        longer; then a device waits for the rest. The number is a lower bound: collectives of one
        kind are taken together, as if each could use the time that another leaves.
        """
        clock = self.topology.chip.mhz * 1e6
        return sum(
            max(0.0, ici_seconds(c, self.topology) - c.cycles / clock)
            for c in self.program.collectives
        )

    @property
    def peak_seconds(self) -> float:
        """Time of a step if the arithmetic that the model needs ran at peak."""
        return self.program.flops / self.topology.peak

    @property
    def step_seconds(self) -> float:
        """Time of a step. Memory traffic overlaps with computation."""
        return max(self.core_seconds, self.hbm_seconds) + self.waiting_seconds

    @property
    def rate(self) -> float:
        """Images a second on each chip."""
        return self.images / self.step_seconds / self.topology.chips

    @property
    def mfu(self) -> float:
        """Model FLOPs utilisation: the share of peak arithmetic spent on what the model needs."""
        return self.peak_seconds / self.step_seconds

    @property
    def limit(self) -> str:
        """What takes most of the time, in words."""
        if self.waiting_seconds > max(self.core_seconds, self.hbm_seconds):
            return "communication between chips"
        if self.hbm_seconds > self.core_seconds:
            return "memory bandwidth"
        busy = self.peak_seconds / self.core_seconds
        if busy > 0.5:
            return f"matrix units ({busy:.0%} of the core's time at peak)"
        return f"the core, but its matrix units only for {percent(busy)}: vector work and padding"

    def run_hours(self, steps: int) -> float:
        """Returns the hours that a number of steps take."""
        return steps * self.step_seconds / 3600

    def chip_hours(self, steps: int) -> float:
        """Returns the chip-hours that a number of steps take, which are what is billed."""
        return self.run_hours(steps) * self.topology.chips


def percent(share: float) -> str:
    """Formats a share; a small one is not nothing."""
    return "<1%" if 0 < share < 0.01 else f"{share:.0%}"


def ici_seconds(collective: hlo.Collective, topology: Topology) -> float:
    """Returns the seconds that a collective takes at the full rate of a chip's links.

    A sum over n chips sends every byte 2 (n - 1) / n times: twice, except for a chip's own share.
    Anything else sends it (n - 1) / n times. Cores of one chip share its links.
    """
    n = max(1, collective.devices // topology.chip.cores)
    if n == 1 or not topology.ici_rate:
        return 0.0
    if collective.kind == "collective-permute":  # to one neighbour, through one link
        return collective.bytes / topology.chip.link_rate
    times = 2 if collective.kind == "all-reduce" else 1
    return times * (n - 1) / n * collective.bytes / topology.ici_rate
