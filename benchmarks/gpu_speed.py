"""Training and inference on one GPU beside timm with torch.compile, in images a second.

    python -m benchmarks.gpu_speed [--variant B/16] [--batches 128 256 512 1024] [--rounds 3]

Both compute in bfloat16 with the tanh form of GELU; parameters are float32 in training. A step is
all of it: uint8 images from the host, normalising, forward, and in training backward and Adam.
timm's images go through its own PrefetchLoader, which copies them while the step before is
computed, and its Adam is torch's fused one; in inference its parameters are bfloat16, too.

Every figure is of a fresh process that has the GPU to itself. In the first round each form tries
all batch sizes, in the others only the one that was its fastest; the table has the medians of all
rounds. "max-autotune" takes minutes for each batch size, and far less where the environment has
TORCHINDUCTOR_MAX_AUTOTUNE_GEMM_BACKENDS=ATEN, which leaves products to cuBLAS. Needs a CUDA build
of torch, timm and `jax[cuda13]`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from mlp_mixer.cli import output
from mlp_mixer.models.init import init

FORMS = ("timm default", "timm max-autotune", "ours")
KINDS = ("training", "inference")
CLASSES = 1000
SECONDS = 4.0  # for each figure, after as many steps as it takes to fill the pipeline


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variant", default="B/16")
    parser.add_argument("--batches", type=int, nargs="+", default=[128, 256, 512, 1024])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--forms", nargs="+", default=FORMS, choices=FORMS)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--worker", choices=FORMS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return work(args)
    rows = [("step", "form", "batch", "images/s", "to the first form")]
    for kind in args.kinds:
        speeds: dict[str, list[float]] = {form: [] for form in args.forms}
        best: dict[str, int] = {}
        for _ in range(args.rounds):
            for form in args.forms:
                batches = [best[form]] if form in best else args.batches
                found = measure(args, form, kind, batches)
                best[form] = max(found, key=found.get)
                speeds[form].append(found[best[form]])
        first = speeds[args.forms[0]]
        for form, found in speeds.items():
            ratio = statistics.median(a / b for a, b in zip(found, first, strict=True))
            speed = f"{statistics.median(found):.0f}"
            rows.append((kind, form, str(best[form]), speed, f"{ratio:.2f}"))
    print(f"{args.variant}, {args.rounds} rounds\n\n{output.table(rows)}")


def measure(args: argparse.Namespace, form: str, kind: str, batches: list[int]) -> dict[int, float]:
    """Images a second for each batch size that fits, from a process of its own."""
    command = [
        sys.executable, "-m", "benchmarks.gpu_speed", "--worker", form, "--kinds", kind,
        "--variant", args.variant, "--batches", *map(str, batches),
    ]  # fmt: skip
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE)
    found = {int(batch): speed for batch, speed in json.loads(done.stdout.split("\n")[-2]).items()}
    shown = ", ".join(f"{batch}: {speed:.0f}" for batch, speed in found.items())
    print(f"{kind}, {form}: {shown} images/s", file=sys.stderr)
    return found


def work(args: argparse.Namespace) -> None:
    name, _, mode = args.worker.partition(" ")
    found = {}
    for batch in args.batches:
        try:
            if name == "ours":
                run, wait = our_step(args.variant, args.kinds[0], batch)
            else:
                run, wait = timm_step(args.variant, args.kinds[0], batch, mode)
            found[batch] = images_per_second(run, wait, batch)
        except RuntimeError as error:  # JAX's and torch's errors of memory are of this type
            if not found or "out of memory" not in str(error).lower():
                raise
            break  # larger ones do not fit either
    print(json.dumps(found))


def images_per_second(run: Callable[[], None], wait: Callable[[], None], batch: int) -> float:
    def seconds(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            run()
        wait()
        return time.perf_counter() - start

    seconds(3)  # compiles, and max-autotune records its graph in the second step
    steps = max(3, round(SECONDS / (seconds(3) / 3)))
    return batch * steps / seconds(steps)


def data(batch: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images [n, 224, 224, 3] and int32 labels [n]."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch, 224, 224, 3), dtype=np.uint8)
    return images, rng.integers(0, CLASSES, batch).astype(np.int32)


def our_step(
    variant: str, kind: str, batch: int
) -> tuple[Callable[[], object], Callable[[], object]]:
    """A step that returns before the GPU is done, and a function that waits for it."""
    import jax
    import jax.numpy as jnp
    import optax

    from mlp_mixer.models import mixer
    from mlp_mixer.models.pixels import normalise
    from mlp_mixer.runs.checkpoints import TrainState
    from mlp_mixer.training import layouts
    from mlp_mixer.training.step import make_train_step

    module = mixer.create(variant, num_classes=CLASSES, dtype=jnp.bfloat16)
    images, labels = data(batch)
    layout, params = layouts.make_layout(), init(module)
    if kind == "training":
        tx = optax.adam(1e-3)
        state = TrainState(jnp.zeros((), jnp.int32), params, tx.init(params))
        held = [jax.device_put(state, layout.shardings(state)), None]
        step = layout.jit_step(make_train_step(module, tx, loss="softmax"), held[0])

        def run() -> None:
            held[:] = step(held[0], layout.to_devices({"image": images, "label": labels}))
    else:
        params, held = jax.device_put(params, layout.everywhere), [None]
        forward = jax.jit(lambda params, x: module.apply({"params": params}, normalise(x)))

        def run() -> None:
            held[0] = forward(params, layout.to_devices({"image": images})["image"])

    return run, lambda: jax.block_until_ready(held)


def timm_step(
    variant: str, kind: str, batch: int, mode: str
) -> tuple[Callable[[], object], Callable[[], object]]:
    """The same for timm, with torch.compile of this mode."""
    import functools
    import itertools

    import torch

    from benchmarks.timm_logits import import_timm

    timm = import_timm()
    from timm.data.loader import PrefetchLoader

    torch._dynamo.reset()  # a program for each batch size, not one for all
    torch.set_float32_matmul_precision("high")
    size, patch = variant.lower().split("/")
    gelu = functools.partial(torch.nn.GELU, approximate="tanh")
    model = timm.create_model(f"mixer_{size}{patch}_224", num_classes=CLASSES, act_layer=gelu)
    model = model.cuda()
    compiled = torch.compile(model, mode=mode)
    images, labels = data(batch)
    images = torch.tensor(images.transpose(0, 3, 1, 2)).contiguous().pin_memory()
    pair = (images, torch.tensor(labels).long().pin_memory())
    # PrefetchLoader makes images float and normalises them on the GPU.
    loader = PrefetchLoader(
        itertools.repeat(pair), mean=(0.5,) * 3, std=(0.5,) * 3, device=torch.device("cuda"),
        img_dtype=torch.float32 if kind == "training" else torch.bfloat16,
    )  # fmt: skip
    batches = iter(loader)
    if kind == "training":
        model.train()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

        def run() -> None:
            images, labels = next(batches)
            with torch.autocast("cuda", torch.bfloat16):
                loss = torch.nn.functional.cross_entropy(compiled(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    else:
        model.eval().bfloat16()  # its parameters, too, which is its fastest way

        def run() -> None:
            with torch.inference_mode():
                compiled(next(batches)[0])

    return run, torch.cuda.synchronize


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    main()
