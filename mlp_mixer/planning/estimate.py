"""From a compiled program to time and throughput: arithmetic on what the compiler says."""

from dataclasses import dataclass

from mlp_mixer.planning import hlo
from mlp_mixer.planning.chips import Topology
from mlp_mixer.planning.compiler import Program

# What every plan says beside its numbers.
LEFT_OUT = """\
What this leaves out: loading, augmenting and transferring images, starting each step, evaluations
and checkpoints, clocks that throttle, and the overlap of communication with computation (none is
assumed). Cycles are the compiler's estimate and not a measurement: differences below 5 % are noise,
and it counts bfloat16 as no faster than float32 where memory is the limit. On a real TPU measure
with --config.profile_steps."""

# The share of HBM that a program cannot have: a v5e of 16 GiB has 15.75 for programs.
RESERVED = 1 / 64


@dataclass(frozen=True)
class Estimate:
    """One program on one topology.

    Attributes:
        program: as compiled.
        topology: that it was compiled for.
        images: in a step, over all devices.
    """

    program: Program
    topology: Topology
    images: int

    @property
    def memory(self) -> float:
        """Bytes of a device."""
        return sum(self.program.memory.values())

    @property
    def capacity(self) -> float:
        """Bytes of a device that a program can have."""
        return self.topology.hbm * (1 - RESERVED)

    @property
    def core_seconds(self) -> float:
        """Of a step, by the compiler's cycles: arithmetic, element-wise work, padding."""
        return self.program.cycles / (self.topology.chip.mhz * 1e6)

    @property
    def hbm_seconds(self) -> float:
        """Of a step, if memory were the only limit."""
        return self.program.hbm_bytes / self.topology.hbm_rate

    @property
    def ici_seconds(self) -> float:
        """Of a step, for all communication."""
        return sum(ici_seconds(c, self.topology) for c in self.program.collectives)

    @property
    def peak_seconds(self) -> float:
        """Of a step, if the arithmetic that the model needs ran at peak."""
        return self.program.flops / self.topology.peak

    @property
    def step_seconds(self) -> float:
        """Of a step. Memory is read while the core computes; communication hides nothing."""
        return max(self.core_seconds, self.hbm_seconds) + self.ici_seconds

    @property
    def rate(self) -> float:
        """Images a second and chip."""
        return self.images / self.step_seconds / self.topology.chips

    @property
    def mfu(self) -> float:
        """Share of the peak arithmetic that the model itself needs."""
        return self.peak_seconds / self.step_seconds

    @property
    def limit(self) -> str:
        """What takes most of the time, in words."""
        if self.ici_seconds > max(self.core_seconds, self.hbm_seconds):
            return "communication between chips"
        if self.hbm_seconds > self.core_seconds:
            return "memory bandwidth"
        busy = self.peak_seconds / self.core_seconds
        if busy > 0.5:
            return f"matrix units ({busy:.0%} of the core's time at peak)"
        return f"the core, but its matrix units only for {busy:.0%}: vector work and padding"

    def run_hours(self, steps: int) -> float:
        """Of so many steps."""
        return steps * self.step_seconds / 3600

    def chip_hours(self, steps: int) -> float:
        """What is billed for so many steps."""
        return self.run_hours(steps) * self.topology.chips


def ici_seconds(collective: hlo.Collective, topology: Topology) -> float:
    """Time of a collective at the full rate of a chip's links.

    A sum over n chips sends every byte twice but for the own share, 2 (n - 1) / n times, anything
    else once. Cores of one chip share its links.
    """
    n = max(1, collective.devices // topology.chip.cores)
    if n == 1 or not topology.ici_rate:
        return 0.0
    if collective.kind == "collective-permute":  # to one neighbour, through one link
        return collective.bytes / topology.chip.link_rate
    times = 2 if collective.kind == "all-reduce" else 1
    return times * (n - 1) / n * collective.bytes / topology.ici_rate
