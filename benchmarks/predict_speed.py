"""Images per second from JPEG files to a CSV of classes: `predict` beside timm.

    python -m benchmarks.predict_speed [--images FOLDER_OR_TAR] [--timm-python PYTHON]

Ours is the command itself. timm's side does what its inference.py does (dataset and loader of timm
with its default of two worker processes, softmax, the best five, a CSV), with the same model at
random weights. Each measurement is a process of its own; the forms take turns. Every form runs on
few images and on all: the difference is the rate without start-up, the few are the start-up. CPU
time is that of all threads and processes. timm needs torch (a CPU build), torchvision and timm, in
this Python or in another one.
"""

import argparse
import csv
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FORMS = ("timm float32", "timm bfloat16", "ours")
CLASSES = 1000
FEW = 32  # images of the run that stands for the start-up
BATCH = 64  # of timm's loader


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", help="a folder or .tar of JPEG photographs")
    parser.add_argument("--count", type=int, default=200, help="files, repeated if need be")
    parser.add_argument("--variants", nargs="+", default=["S/32", "S/16"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--forms", nargs="+", default=FORMS, choices=FORMS)
    parser.add_argument("--workers", default="0", help="worker processes of ours")
    parser.add_argument("--timm-python", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--timm", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.timm:
        return timm(*args.timm)
    with tempfile.TemporaryDirectory() as name:
        measure(args, Path(name))


def measure(args: argparse.Namespace, folder: Path) -> None:
    import jax
    import numpy as np

    import mlp_mixer
    from benchmarks import photographs
    from benchmarks.ratios import spread
    from mlp_mixer.cli import output

    few, every = folder / "few", folder / "every"
    for place, count in ((few, FEW), (every, FEW + args.count)):
        (place / "images").mkdir(parents=True)
        for i, content in enumerate(photographs.read(args.images, count)):
            (place / "images" / f"{i:06d}.jpg").write_bytes(content)
    rng = np.random.default_rng(0)
    rows = [("model", "form", "images/s", "images/CPU-s", "to the first form: wall, CPU (least to "
             "most)", "start-up: s, CPU-s")]  # fmt: skip
    for variant in args.variants:
        module = mlp_mixer.create(variant, num_classes=CLASSES)
        params = jax.tree.map(
            lambda x: rng.normal(0, 0.02, x.shape).astype("f4"), mlp_mixer.init(module)
        )
        weights = folder / "weights.npz"
        mlp_mixer.save(weights, module, params)
        found = {form: [] for form in args.forms}
        for number in range(args.rounds + 1):
            for form in args.forms:
                start = run(args, form, variant, weights, few, folder / "out.csv")
                whole = run(args, form, variant, weights, every, folder / "out.csv")
                if number:  # the first one fills caches
                    found[form].append(
                        (*start, *(b - a for a, b in zip(start, whole, strict=True)))
                    )
                    print(variant, form, found[form][-1], file=sys.stderr, flush=True)
        first = found[args.forms[0]]
        for form, seconds in found.items():
            start_wall, start_cpu, wall, cpu = map(statistics.median, zip(*seconds, strict=True))
            ratios = []
            for i in (2, 3):
                each = [a[i] / b[i] for a, b in zip(first, seconds, strict=True)]
                ratios.append(spread(each))
            rows.append(
                (variant, form, f"{args.count / wall:.1f}", f"{args.count / cpu:.1f}",
                 ", ".join(ratios), f"{start_wall:.1f}, {start_cpu:.1f}")
            )  # fmt: skip
    print(f"{args.count} images, {args.rounds} rounds\n\n{output.table(rows)}")


def run(
    args: argparse.Namespace, form: str, variant: str, weights: Path, images: Path, out: Path
) -> tuple[float, float]:
    """Wall and CPU seconds of one process."""
    if form == "ours":
        command = [sys.executable, "-m", "mlp_mixer", "predict", f"--checkpoint={weights}",
                   f"--csv={out}", f"--workers={args.workers}", str(images)]  # fmt: skip
    else:
        command = [args.timm_python, "-m", "benchmarks.predict_speed", "--timm", variant,
                   form.split()[1], str(images), str(out)]  # fmt: skip
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise ValueError(f"{form} failed:\n{done.stderr[-2000:]}")
    with out.open(newline="") as file:
        seen = {row["image"] for row in csv.DictReader(file)}
    assert len(seen) == len(list((images / "images").iterdir()))
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def timm(variant: str, dtype: str, images: str, out: str) -> None:
    """Predicts as timm's inference.py does."""
    import functools

    import torch

    # CPU builds of torch lack these operators, which torchvision of another build looks for.
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", "(Tensor a, Tensor b, float c) -> Tensor")
    from timm import create_model
    from timm.data import create_dataset, create_loader, resolve_data_config

    size, patch = variant.lower().split("/")
    gelu = functools.partial(torch.nn.GELU, approximate="tanh")
    model = create_model(f"mixer_{size}{patch}_224", num_classes=CLASSES, act_layer=gelu).eval()
    dataset = create_dataset(name="", root=images)
    loader = create_loader(
        dataset, batch_size=BATCH, use_prefetcher=True, num_workers=2, device=torch.device("cpu"),
        **resolve_data_config({}, model=model),
    )  # fmt: skip
    names, autocast = dataset.filenames(basename=True), torch.autocast("cpu", torch.bfloat16)
    found = []
    with torch.inference_mode():
        for batch, _ in loader:
            with autocast if dtype == "bfloat16" else torch.autocast("cpu", enabled=False):
                logits = model(batch)
            found.append(torch.topk(logits.float().softmax(-1), 5))
    with open(out, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "rank", "class", "probability"])
        rows = (pair for best in found for pair in zip(*best, strict=True))
        for name, (probabilities, classes) in zip(names, rows, strict=True):
            for rank, (p, k) in enumerate(zip(probabilities, classes, strict=True), 1):
                writer.writerow([name, rank, f"class {int(k)}", float(p)])


if __name__ == "__main__":
    main()
