"""Says what a run will need and cost on a TPU, by compiling its real program for that TPU.

    python -m mlp_mixer plan --config=configs/imagenet.py:B/16 --topology=v5e:4x4
    python -m mlp_mixer plan --config=configs/jft.py:H/14 --topology v5e:4x4 v5p:2x2x2 v6e:4x4
    python -m mlp_mixer plan --config=configs/imagenet.py:L/16 --topology=v5e:4x4 --compare
    python -m mlp_mixer plan --config=configs/imagenet.py:B/16 --topology=v5e:4x4 --eval

No TPU is needed, only libtpu (pip install libtpu), which has the compiler; neither is the data set,
if mlp_mixer/data/known.py knows it or --num-classes and --examples say how large it is. Compiling
takes half a minute (small models) to eight minutes for each topology or variant.

A topology is a kind of chip (v2, v3, v4, v5e, v5p, v6e, tpu7x) and the number of chips along each
axis. On v2, v3 and tpu7x a program sees the two cores of a chip as devices; memory is then that of
a core.
--compare tries layouts, accumulation and rematerialisation and recommends one.
"""

import argparse
import logging
from collections.abc import Iterator

import ml_collections

from mlp_mixer import cli
from mlp_mixer.analysis.tpu import compile, estimate
from mlp_mixer.analysis.tpu.chips import GIB, parse_topology
from mlp_mixer.analysis.tpu.estimate import Estimate
from mlp_mixer.data import known
from mlp_mixer.training import fields

log = logging.getLogger(__name__)
NOISE = 0.05  # differences between estimates that mean nothing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    cli.add_config_argument(parser)
    parser.add_argument(
        "--topology", required=True, nargs="+", metavar="KIND:AxB",
        help="chips and how they are linked, such as v5e:4x4 or v5p:2x2x1; several make a table",
    )  # fmt: skip
    parser.add_argument("--eval", action="store_true", help="the forward pass, not training")
    parser.add_argument("--compare", action="store_true", help="try variants, recommend one")
    parser.add_argument("--num-classes", type=int, help="of the data set, if it is not known")
    parser.add_argument("--examples", type=int, help="of the data set to train on, likewise")
    parser.add_argument("--figure", help="file to draw memory and throughput to")


def main(args: argparse.Namespace) -> None:
    config = fields.check(args.config)
    topologies = [parse_topology(name) for name in args.topology]
    num_classes, examples = data_size(config, args.num_classes, args.examples)
    if args.eval and args.compare:
        raise ValueError("--compare is of training: leave out --eval")
    programs = {
        f"{topology.name} {name}".strip(): (topology, variant)
        for topology in topologies
        for name, variant in (variants(config) if args.compare else [("", config)])
    }
    plans: dict[str, Estimate] = {}
    for number, (label, (topology, variant)) in enumerate(programs.items(), 1):
        log.info("compiling %d of %d, %s: this can take minutes", number, len(programs), label)
        plan, steps = make(variant, num_classes, examples, topology.name, args.eval)
        plans[label] = plan
        print(f"{label}\n{describe(plan, steps)}\n", flush=True)
    if len(plans) > 1:
        print(f"{table(plans, steps)}\n")
    if args.compare:
        for topology in topologies:
            mine = {k: plan for k, plan in plans.items() if plan.topology == topology}
            print(f"{recommend(mine)}\n")
    print(estimate.LEFT_OUT)
    if args.figure:
        from mlp_mixer.analysis.tpu import picture

        picture.draw(plans, args.figure)
        print(f"drawn to {args.figure}")


def data_size(
    config: ml_collections.ConfigDict, num_classes: int | None, examples: int | None
) -> tuple[int, int]:
    """Classes and training examples of a config's data set, without the data.

    Raises:
        ValueError: the data set is not known, and they are not given.
    """
    if not (num_classes and examples):
        try:
            found = known.classes_and_examples(config.data.source, config.data.train_split)
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
        The estimate and the number of steps of the run, 1 of an evaluation.

    Raises:
        ValueError: see `compile.isolated` and `setup.make_recipe`.
    """
    function = compile.eval_program if eval_ else compile.train_program
    program, steps = compile.isolated(function, config, num_classes, examples, topology)
    return Estimate(program, parse_topology(topology), config.batch_size), steps


def variants(
    config: ml_collections.ConfigDict,
) -> Iterator[tuple[str, ml_collections.ConfigDict]]:
    """The ways to lay out a run that are worth a comparison; none changes its result."""
    for name, overrides in {
        "as it is": {},
        "accum_steps=1": {"accum_steps": 1},
        "accum_steps=1, remat": {"accum_steps": 1, "remat": True},
        "fsdp": {"layout": "fsdp"},
        "fsdp, accum_steps=1": {"layout": "fsdp", "accum_steps": 1},
    }.items():
        changed = config.copy_and_resolve_references()
        with changed.unlocked():
            changed.update_from_flattened_dict(overrides)
        yield name, changed


def describe(plan: Estimate, steps: int) -> str:
    """One plan in words."""
    topology, unit = plan.topology, plan.topology.unit
    lines = [f"  {topology.chips} chips, {plan.images / topology.devices:g} images each {unit}"]
    if not plan.program.fits:
        return "\n".join(
            [*lines, f"  does not fit: needs {gib(plan.memory)} of {gib(plan.capacity)} a {unit}"]
        )
    memory = ", ".join(f"{name} {gib(size)}" for name, size in plan.program.memory.items())
    lines += [
        f"  fits: {gib(plan.memory)} of {gib(plan.capacity)} a {unit}: {memory}",
        f"  speed: {plan.rate:,.0f} images/s a chip, {plan.rate * topology.chips:,.0f} in all; "
        f"{1e3 * plan.step_seconds:.1f} ms a step; MFU {plan.mfu:.0%}",
        f"  limited by {plan.limit}: {1e3 * plan.peak_seconds:.1f} ms of arithmetic at peak, "
        f"{1e3 * plan.core_seconds:.1f} ms by the compiler's cycles, "
        f"{1e3 * plan.hbm_seconds:.1f} ms of memory traffic, "
        f"{1e3 * plan.ici_seconds:.1f} ms of communication",
    ]
    for c in plan.program.collectives:
        lines.append(
            f"  {c.count} x {c.kind} over {c.devices} devices, {c.bytes / 2**20:,.1f} MiB "
            f"together: {1e3 * estimate.ici_seconds(c, topology):.2f} ms"
        )
    if steps > 1:
        lines.append(
            f"  {steps:,} steps: {plan.run_hours(steps):.1f} hours, "
            f"{plan.chip_hours(steps):,.0f} chip-hours"
        )
    return "\n".join(lines)


def table(plans: dict[str, Estimate], steps: int) -> str:
    """Several plans, a line each."""
    rows = [
        ("", "GiB", "of", "ms a step", "images/s a chip", "MFU", "ms of ICI", "hours", "chip-hours")
    ]
    for name, plan in plans.items():
        cells = [name, f"{plan.memory / GIB:.2f}", f"{plan.capacity / GIB:.2f}"]
        if not plan.program.fits:
            rows.append((*cells, "does not fit", "", "", "", "", ""))
            continue
        rows.append(
            (*cells, f"{1e3 * plan.step_seconds:.1f}", f"{plan.rate:,.0f}", f"{plan.mfu:.0%}",
             f"{1e3 * plan.ici_seconds:.1f}", f"{plan.run_hours(steps):.1f}",
             f"{plan.chip_hours(steps):,.0f}")
        )  # fmt: skip
    return cli.table(rows)


def recommend(plans: dict[str, Estimate]) -> str:
    """The fastest that fits, or the first that is as fast but for noise."""
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


def gib(size: float) -> str:
    """Bytes in words."""
    return f"{size / GIB:.2f} GiB" if size > GIB / 100 else f"{size / 2**20:.2f} MiB"
