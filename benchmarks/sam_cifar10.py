"""Adam, SAM and GSAM on CIFAR-10: accuracy and sharpness of the same small Mixer, several seeds.

    python -m benchmarks.sam_cifar10 --cifar10=FOLDER --out=OUT [--corrupted=FOLDER_OF_CIFAR_10_C]

FOLDER has train/ and test/ with a folder for each class. Runs are workdirs in OUT and resume, so
the command may be ended and given again. The table has the mean over seeds with the smallest and
largest: accuracy on the test set (and, by --corrupted, on images that benchmarks.corrupt_images
made, the mean over corruptions and severities), the loss on training images as they are, and the
largest eigenvalue of its Hessian. All methods see as many images; a step of SAM or GSAM takes about
twice as long as Adam's. The defaults (10,000 images, 40 epochs, patches of 8 pixels) take two CPU
cores about half an hour.
"""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import ml_collections

import mlp_mixer
from configs import cifar10
from mlp_mixer.cli import output

# What a method changes of the config. rho and alpha were chosen before the runs, not by them.
METHODS = {
    "Adam": {},
    "Adam in float32": {"dtype": "float32"},  # where the CPU's dtype="auto" is bfloat16
    "SAM": {"sam": {"rho_max": 0.1, "rho_min": 0.1}},
    "GSAM": {"sam": {"rho_max": 0.15, "rho_min": 0.05, "alpha": 0.2}},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cifar10", type=Path, required=True, help="train/ and test/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--corrupted", type=Path, help="made by benchmarks.corrupt_images")
    parser.add_argument("--per-class", type=int, default=1000, help="training images; 0 for all")
    parser.add_argument("--epochs", type=float, default=40)
    parser.add_argument("--patch-size", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--group-size", type=int, default=64, help="images of a perturbation")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    args = parser.parse_args()

    found: dict[str, list[dict[str, float]]] = {method: [] for method in args.methods}
    for seed in range(args.seeds):  # all methods with each seed, so that an early table is fair
        for method in args.methods:
            workdir = args.out / f"{method.lower().replace(' ', '_')}_{seed}"
            mlp_mixer.train(make_config(args, method, seed), workdir)
            found[method].append(measure(workdir, args))
            print(f"{method}, seed {seed}: {found[method][-1]}", flush=True)
    columns = list(found[args.methods[0]][0])
    rows = [("", *columns)]
    rows += [
        (method, *(spread([run[column] for run in runs]) for column in columns))
        for method, runs in found.items()
    ]
    print(f"\n{args.seeds} seeds\n\n{output.table(rows)}")


def make_config(args: argparse.Namespace, method: str, seed: int) -> ml_collections.ConfigDict:
    config = cifar10.get_config("small")
    config.seed = seed
    config.data.source = f"folder:{args.cifar10}"
    config.data.examples_per_class = args.per_class
    config.model.patch_size = (args.patch_size, args.patch_size)
    config.total_epochs = args.epochs
    config.eval_every_epochs = args.epochs
    config.sheet_examples = 0
    config.sam.group_size = args.group_size
    config.update(METHODS[method])
    return config


def measure(workdir: Path, args: argparse.Namespace) -> dict[str, float]:
    """The numbers of one run, under the names that the table shows."""
    found = {"test, %": 100 * mlp_mixer.evaluate(workdir).accuracy}
    if args.corrupted:
        sets = [f"C=folder:{args.corrupted}"]
        found["corrupted, %"] = mlp_mixer.robustness(workdir, sets=sets).measured["c"]
    sharpness = mlp_mixer.sharpness(workdir)
    return found | {
        "training loss": sharpness.loss,
        "largest eigenvalue": sharpness.eigenvalues[0],
    }


def spread(values: list[float], form: Callable[[float], str] = "{:.4g}".format) -> str:
    return f"{form(statistics.mean(values))} ({form(min(values))} to {form(max(values))})"


if __name__ == "__main__":
    main()
