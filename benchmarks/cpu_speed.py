"""Training and inference on a CPU beside big_vision's Mixer and timm's, in images a second.

    python -m benchmarks.cpu_speed [--big-vision ../big_vision] [--variant S/16] [--batch 8]

Each implementation has a process of its own, which waits while another one works; they take turns
for every step, so that a busy machine is as busy for all. The table has medians of wall time and
of CPU time, and the median of the ratios to the first form within a round. A training step is
forward, backward and Adam on one batch of random images. timm's GELU is set to the tanh form that
the others compute; our inference is that of a classifier, whose parameters are rounded once. Needs
torch (a CPU build), timm and, for its form, a checkout of google-research/big_vision. Ratios within
a round are to the first of --forms. --timm-python names another Python, with this package, that has
torch and timm, so that ours can run with any version of JAX.
"""

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from unittest import mock

import numpy as np

from benchmarks.ratios import spread
from mlp_mixer.cli import output
from mlp_mixer.models.init import init

FORMS = ("timm float32", "timm bfloat16", "big_vision float32", "ours float32", "ours bfloat16")
CLASSES = 1000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--big-vision", metavar="CHECKOUT", default="")
    parser.add_argument("--variant", default="S/16")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--forms", nargs="+", choices=FORMS)
    parser.add_argument("--timm-python", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--worker", choices=FORMS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return work(args)
    args.forms = args.forms or [
        form for form in FORMS if args.big_vision or not form.startswith("big_vision")
    ]
    workers = {form: start(args, form) for form in args.forms}
    rows = [("step", "form", "images/s", "images/CPU-s", "to the first form: wall, CPU")]
    for kind in ("training", "inference"):
        found = {form: [] for form in workers}
        for number in range(args.rounds + 1):
            for form, worker in workers.items():
                seconds = ask(worker, kind)
                if number:  # the first one compiles
                    found[form].append(seconds)
        first = found[args.forms[0]]
        for form, seconds in found.items():
            speeds = [
                f"{args.batch / statistics.median(s):.2f}" for s in zip(*seconds, strict=True)
            ]
            ratios = [
                spread([a[i] / b[i] for a, b in zip(first, seconds, strict=True)]) for i in (0, 1)
            ]
            rows.append((kind, form, *speeds, ", ".join(ratios)))
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    print(f"{args.variant}, batch {args.batch}, {args.rounds} rounds\n\n{output.table(rows)}")


def start(args: argparse.Namespace, form: str) -> subprocess.Popen:
    python = args.timm_python if form.startswith("timm") else sys.executable
    command = [
        python, "-m", "benchmarks.cpu_speed", "--worker", form, "--variant", args.variant,
        "--batch", str(args.batch), "--big-vision", args.big_vision,
    ]  # fmt: skip
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(worker: subprocess.Popen, kind: str) -> tuple[float, float]:
    """Wall and CPU seconds of one step."""
    worker.stdin.write(f"{kind}\n")
    worker.stdin.flush()
    return tuple(json.loads(worker.stdout.readline()))


def work(args: argparse.Namespace) -> None:
    name, dtype = args.worker.split()
    steps = {"timm": timm_steps, "big_vision": big_vision_steps, "ours": our_steps}[name](
        args, dtype
    )
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        steps[line.strip()]()
        print(json.dumps((time.perf_counter() - wall, time.process_time() - cpu)), flush=True)


def data(args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images [n, 224, 224, 3] and int32 labels [n]."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (args.batch, 224, 224, 3), dtype=np.uint8)
    return images, rng.integers(0, CLASSES, args.batch).astype(np.int32)


def our_steps(args: argparse.Namespace, dtype: str) -> dict[str, Callable[[], None]]:
    from mlp_mixer.runtime import host_memory

    host_memory.keep()
    import jax
    import jax.numpy as jnp
    import optax

    from mlp_mixer.evaluation import compute
    from mlp_mixer.models import mixer
    from mlp_mixer.models.parts import best_parts
    from mlp_mixer.runs.checkpoints import TrainState
    from mlp_mixer.training import layouts
    from mlp_mixer.training.step import make_train_step

    module = mixer.create(args.variant, num_classes=CLASSES, dtype=jnp.dtype(dtype))
    images, labels = data(args)
    layout, tx, params = layouts.make_layout(), optax.adam(1e-3), init(module)
    state = TrainState(jnp.zeros((), jnp.int32), params, tx.init(params))
    # The step takes its state's memory, and inference keeps the parameters.
    held = [jax.device_put(jax.tree.map(jnp.copy, state), layout.shardings(state))]
    parts = best_parts(module, args.batch, "cpu")  # as training does it
    local = make_train_step(module, tx, loss="softmax", accum_steps=parts)
    step = layout.jit_step(local, held[0])
    # As a classifier does it, whose parameters are rounded once.
    rounded = mixer.rounded(module, params)
    forward = jax.jit(lambda params, x: compute.forward(module, params, x, layout.mesh))

    def train():
        held[0], metrics = step(held[0], layout.to_devices({"image": images, "label": labels}))
        jax.block_until_ready((held[0], metrics))

    return {
        "training": train,
        "inference": lambda: jax.block_until_ready(forward(rounded, images)),
    }


def big_vision_steps(args: argparse.Namespace, dtype: str) -> dict[str, Callable[[], None]]:
    del dtype  # its Mixer has float32 only
    import jax
    import optax

    sys.path.insert(0, args.big_vision)
    for name in ("big_vision.utils", "big_vision.models.common"):
        sys.modules[name] = mock.MagicMock()
    models = importlib.import_module("big_vision.models.mlp_mixer")
    model, tx = models.Model(CLASSES, variant=args.variant), optax.adam(1e-3)
    images, labels = data(args)
    images = images.astype(np.float32) / 127.5 - 1
    params = jax.jit(model.init)(jax.random.key(0), images)["params"]
    held = [(jax.tree.map(jax.numpy.copy, params), tx.init(params))]

    def update(state, images, labels):
        def loss(params):
            logits, _ = model.apply({"params": params}, images, train=True)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        value, grads = jax.value_and_grad(loss)(state[0])
        updates, opt = tx.update(grads, state[1], state[0])
        return (optax.apply_updates(state[0], updates), opt), value

    step = jax.jit(update, donate_argnums=0)
    forward = jax.jit(lambda params, x: model.apply({"params": params}, x)[0])

    def train():
        held[0], _ = jax.block_until_ready(step(held[0], images, labels))

    return {
        "training": train,
        "inference": lambda: jax.block_until_ready(forward(params, images)),
    }


def timm_steps(args: argparse.Namespace, dtype: str) -> dict[str, Callable[[], None]]:
    import functools

    import torch

    from benchmarks.timm_logits import import_timm

    size, patch = args.variant.lower().split("/")
    gelu = functools.partial(torch.nn.GELU, approximate="tanh")
    model = import_timm().create_model(
        f"mixer_{size}{patch}_224", num_classes=CLASSES, act_layer=gelu
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    images, labels = data(args)
    images = torch.tensor(images.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)
    labels = torch.tensor(labels).long()

    def autocast():
        return torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16")

    def train():
        model.train()
        with autocast():
            loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def infer():
        model.eval()
        with torch.inference_mode(), autocast():
            model(images)

    return {"training": train, "inference": infer}


if __name__ == "__main__":
    main()
