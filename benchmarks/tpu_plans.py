"""Plans of the shipped configs: the table and the picture of docs/results/tpu.md.

    python -m benchmarks.tpu_plans [--images docs/images] [--only imagenet]

Each config is compiled for the topology that its file names. Programs are kept in --results,
which compiles nothing twice; a program takes minutes of CPU time. Needs libtpu.
"""

import argparse
import importlib
import re
from pathlib import Path

from benchmarks.tpu_results import kept
from mlp_mixer.cli import output
from mlp_mixer.planning import compiler, estimate, picture
from mlp_mixer.planning.chips import GIB, parse_topology
from mlp_mixer.planning.estimate import Estimate
from mlp_mixer.planning.plan import data_size
from mlp_mixer.training import optimizer

CONFIGS = Path(__file__).parent.parent / "configs"
# By this command a file in configs/ names its TPU: the cheapest kind that is easy to get, and as
# many chips as end the run in about a day.
COMMAND = re.compile(r"mlp-mixer plan --config=configs/(\w+)\.py:?(\S*)[\s\\]+--topology=(\S+)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, default=Path("docs/images"), help="for the picture")
    parser.add_argument("--only", help="one config")
    parser.add_argument("--results", type=Path, default=Path("runs/tpu_plans.json"))
    args = parser.parse_args()
    plans, steps = {}, {}
    for name, argument, topology in named():
        if args.only in (None, name):
            label = f"{name}:{argument}".rstrip(":") + f" on {topology}"
            plans[label], steps[label] = make(label, name, argument, topology, args.results)
    print_table(plans, steps)
    print(f"\n{estimate.LEFT_OUT}")
    output.save_figure(picture.draw(plans), args.images / "tpu_plans.png")


def named() -> list[tuple[str, str, str]]:
    """Config, its argument ("" if it has none), and the topology that the config's file names."""
    files = sorted(CONFIGS.glob("*.py"))
    return [found for path in files for found in COMMAND.findall(path.read_text())]


def make(
    label: str, name: str, argument: str, topology: str, results: Path
) -> tuple[Estimate, int]:
    """The plan of a config and the number of its steps; the label is its name in the results."""
    get_config = importlib.import_module(f"configs.{name}").get_config
    config = get_config(argument) if argument else get_config()
    sizes = data_size(config, None, None)
    program = kept(results, label, compiler.train_program, config, *sizes, topology)
    steps = optimizer.steps(config, "total", sizes[1] / config.batch_size)
    return Estimate(program, parse_topology(topology), config.batch_size), steps


def print_table(plans: dict[str, Estimate], steps: dict[str, int]) -> None:
    heads = ("config", "chips", "GiB of", "img/s a chip", "MFU", "ms a step", "of that ICI",
             "steps", "hours", "chip-hours")  # fmt: skip
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for label, plan in plans.items():
        size = f"{plan.memory / GIB:.1f} of {plan.capacity / GIB:.1f}"
        if not plan.program.fits:
            print(f"| {label} | {plan.topology.chips} | {size}: does not fit | | | | | | | |")
            continue
        count = steps[label]
        print(
            f"| {label} | {plan.topology.chips} | {size} | {plan.rate:,.0f} | {plan.mfu:.0%} "
            f"| {1e3 * plan.step_seconds:.1f} | {1e3 * plan.waiting_seconds:.1f} | {count:,} "
            f"| {plan.run_hours(count):.1f} | {plan.chip_hours(count):,.0f} |"
        )


if __name__ == "__main__":
    main()
