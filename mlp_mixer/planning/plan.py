"""Plans what a run needs and costs on a TPU, by compiling its real program for that TPU.

This needs no TPU, only libtpu, which contains the compiler; nor does it need the data set, if
`data.known_sizes` knows it or its size is given.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ml_collections
from matplotlib.figure import Figure

from mlp_mixer.data import known_sizes
from mlp_mixer.models.architectures import ARCHITECTURES
from mlp_mixer.planning import compiler, estimate, picture
from mlp_mixer.planning.chips import GIB, parse_topology
from mlp_mixer.planning.estimate import Estimate
from mlp_mixer.training import fields

log = logging.getLogger(__name__)
NOISE = 0.05  # relative differences between estimates up to this mean nothing


@dataclass(frozen=True)
class Plans:
    """Estimates for one config's program.

    Attributes:
        estimates: by topology and variant, such as "v5e:4x4 fsdp".
        steps: number of steps of the run; 1 for evaluation.
    """

    estimates: dict[str, Estimate]
    steps: int

    def describe(self, label: str) -> str:
        """Describes one plan in words."""
        return f"{label}\n{describe(self.estimates[label], self.steps)}"

    def summary(self) -> list[Sequence[str]]:
        """Returns the plans as a table of strings, with a heading."""
        return table(self.estimates, self.steps)

    def recommendations(self) -> list[str]:
        """Recommends a variant for each topology."""
        topologies = dict.fromkeys(plan.topology for plan in self.estimates.values())
        return [
            recommend({k: p for k, p in self.estimates.items() if p.topology == topology})
            for topology in topologies
        ]

    def figure(self) -> Figure:
        """Draws memory and throughput, a row for each plan."""
        return picture.draw(self.estimates)


def plan(
    config: ml_collections.ConfigDict,
    topologies: Sequence[str],
    *,
    num_classes: int | None = None,
    examples: int | None = None,
    evaluation: bool = False,
    compare: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Plans:
    """Compiles a config's program for TPUs that need not be here, which takes minutes for each.

    Args:
        config: the config of the run.
        topologies: chips and how they are linked, such as "v5e:4x4".
        num_classes: number of classes, if the data set's size is unknown.
        examples: number of training examples, likewise.
        evaluation: whether to compile the forward pass instead of the training step.
        compare: whether to compare several variants of the run; see `variants`.
        tell: called with each plan in words as soon as it is made, as the next may take minutes or
            fail.

    Raises:
        ValueError: a topology or the data set is unknown, libtpu is missing, or the config is
            invalid.
    """
    config = fields.check(config)
    if evaluation and compare:
        raise ValueError(
            "choose compare or evaluation, not both: the variants differ in training only"
        )
    found = [parse_topology(name) for name in topologies]
    num_classes, examples = data_size(config, num_classes, examples)
    programs = {
        f"{topology.name} {name}".strip(): (topology, variant)
        for topology in found
        for name, variant in (variants(config) if compare else [("", config)])
    }
    estimates: dict[str, Estimate] = {}
    steps = 1
    for number, (label, (topology, variant)) in enumerate(programs.items(), 1):
        log.info("compiling %d of %d, %s: this can take minutes", number, len(programs), label)
        estimates[label], steps = make(variant, num_classes, examples, topology.name, evaluation)
        if tell:
            tell(Plans(estimates, steps).describe(label))
    return Plans(estimates, steps)


def data_size(
    config: ml_collections.ConfigDict, num_classes: int | None, examples: int | None
) -> tuple[int, int]:
    """Returns a config's numbers of classes and of training examples, without reading the data.

    Raises:
        ValueError: the data set is unknown, and they are not given.
    """
    if not (num_classes and examples):
        try:
            found = known_sizes.classes_and_examples(config.data.source, config.data.train_split)
        except ValueError as error:
            raise ValueError(f"{error}, with --num-classes and --examples") from None
        num_classes, examples = num_classes or found[0], examples or found[1]
    if config.data.examples_per_class:
        examples = min(examples, config.data.examples_per_class * num_classes)
    return num_classes, examples


def make(
    config: ml_collections.ConfigDict, num_classes: int, examples: int, topology: str, eval_: bool
) -> tuple[Estimate, int]:
    """Compiles a config's step, or its forward pass, in a process of its own.

    Returns:
        The estimate, and the number of steps of the run (1 for evaluation).

    Raises:
        ValueError: as for `compiler.isolated` and `training.recipe.make_recipe`.
    """
    function = compiler.eval_program if eval_ else compiler.train_program
    program, steps = compiler.isolated(function, config, num_classes, examples, topology)
    return Estimate(program, parse_topology(topology), config.batch_size), steps


def variants(
    config: ml_collections.ConfigDict,
) -> Iterator[tuple[str, ml_collections.ConfigDict]]:
    """Yields names and configs of variants of a run worth comparing; none changes its result."""
    other = "replicated" if config.layout == "fsdp" else "fsdp"
    tried: dict[str, dict[str, Any]] = {"as it is": {}, "accum_steps=1": {"accum_steps": 1}}
    if ARCHITECTURES[config.architecture].can_remat:
        tried["accum_steps=1, remat"] = {"accum_steps": 1, "remat": True}
    tried[other] = {"layout": other}
    tried[f"{other}, accum_steps=1"] = {"layout": other, "accum_steps": 1}
    for name, overrides in tried.items():
        changed = config.copy_and_resolve_references()
        with changed.unlocked():
            changed.update_from_flattened_dict(overrides)
        yield name, changed


def describe(plan: Estimate, steps: int) -> str:
    """Describes one plan in words."""
    topology, unit = plan.topology, plan.topology.unit
    lines = [f"  {topology.chips} chips, {plan.images / topology.devices:g} images each {unit}"]
    if not plan.program.fits:
        return "\n".join(
            [*lines, f"  does not fit: needs {gib(plan.memory)} of {gib(plan.capacity)} a {unit}"]
        )
    hidden = plan.ici_seconds - plan.waiting_seconds
    memory = ", ".join(f"{name} {gib(size)}" for name, size in plan.program.memory.items())
    lines += [
        f"  fits: {gib(plan.memory)} of {gib(plan.capacity)} a {unit}: {memory}",
        f"  speed: {plan.rate:,.0f} images/s a chip, {plan.rate * topology.chips:,.0f} in all; "
        f"{1e3 * plan.step_seconds:.1f} ms a step; MFU {estimate.percent(plan.mfu)}",
        f"  limited by {plan.limit}: {1e3 * plan.peak_seconds:.1f} ms of arithmetic at peak, "
        f"{1e3 * plan.core_seconds:.1f} ms by the compiler's cycles, "
        f"{1e3 * plan.hbm_seconds:.1f} ms of memory traffic, "
        f"{1e3 * plan.ici_seconds:.1f} ms of communication"
        + (f" ({1e3 * hidden:.1f} ms of it beside other work)" if hidden else ""),
    ]
    for c in plan.program.collectives:
        work = 1e-3 * c.cycles / topology.chip.mhz
        lines.append(
            f"  {c.count} x {c.kind} over {c.devices} devices, {c.bytes / 2**20:,.1f} MiB "
            f"together: {1e3 * estimate.ici_seconds(c, topology):.2f} ms"
            + (f", fused into {work:.2f} ms of other work" if work else "")
        )
    if steps > 1:
        lines.append(
            f"  {steps:,} steps: {hours(plan.run_hours(steps))} hours, "
            f"{hours(plan.chip_hours(steps))} chip-hours"
        )
    return "\n".join(lines)


def table(plans: dict[str, Estimate], steps: int) -> list[Sequence[str]]:
    """Makes a table of plans, a row each, below a heading.

    An evaluation has one step: how long it takes as a whole is not known, so there are no hours.
    """
    heading = ("", "GiB", "of", "ms a step", "images/s a chip", "MFU", "ms of ICI")
    rows: list[Sequence[str]] = [(*heading, "hours", "chip-hours") if steps > 1 else heading]
    for name, plan in plans.items():
        cells = [name, f"{plan.memory / GIB:.2f}", f"{plan.capacity / GIB:.2f}"]
        if not plan.program.fits:
            cells.append("does not fit")
            rows.append((*cells, *[""] * (len(rows[0]) - len(cells))))
            continue
        cells += [
            f"{1e3 * plan.step_seconds:.1f}", f"{plan.rate:,.0f}",
            estimate.percent(plan.mfu), f"{1e3 * plan.waiting_seconds:.1f}",
        ]  # fmt: skip
        if steps > 1:
            cells += [hours(plan.run_hours(steps)), hours(plan.chip_hours(steps))]
        rows.append(tuple(cells))
    return rows


def recommend(plans: dict[str, Estimate]) -> str:
    """Recommends, in words, the first of the plans that fit and are as fast as any, up to NOISE."""
    fitting = {name: plan for name, plan in plans.items() if plan.program.fits}
    if not fitting:
        return (
            "none of these fits: take more chips, chips with more memory, or a smaller batch_size"
        )
    fastest = min(plan.step_seconds for plan in fitting.values())
    name = next(
        name for name, plan in fitting.items() if plan.step_seconds <= fastest * (1 + NOISE)
    )
    return f"recommended: {name} (within {NOISE:.0%} of the fastest)"


def hours(number: float) -> str:
    """Formats a number of hours, so that short runs do not take 0."""
    return (
        f"{number:,.0f}" if number >= 100 else f"{number:.2g}" if number < 10 else f"{number:.1f}"
    )


def gib(size: float) -> str:
    """Formats a number of bytes as GiB, or as MiB if it is small."""
    return f"{size / GIB:.2f} GiB" if size > GIB / 100 else f"{size / 2**20:.2f} MiB"
