"""Damages checkpoints of a run in many ways; every damage must be noticed, no wrong array used.

    python -m benchmarks.damage_checkpoints [--flips=200] [--cuts=50] [--seed=0]
    python -m benchmarks.damage_checkpoints --workdir=gs://BUCKET/FOLDER --flips=25 --cuts=25
    python -m benchmarks.damage_checkpoints --server ...    # in a bucket on this machine

A small run leaves two checkpoints. Each try works on a fresh copy of its workdir and harms the
newer: flips one bit of a random byte (of all bytes of the checkpoint alike, or of a random file),
cuts a file at a random length, or deletes it. Then it resumes as train.py does. "noticed" counts
the tries in which the newer checkpoint was set aside, or was none without its marker, "right
arrays" those that then went on from exactly the arrays of the older. For comparison, Orbax's own
restore of the same damaged files: "raised", "right arrays" (the bytes are not read or the error is
mended) and "wrong arrays".
"""

import argparse
import collections
import contextlib
import logging
import sys
import tempfile
from functools import partial
from typing import BinaryIO

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
from tqdm import tqdm

from mlp_mixer.cli.output import table
from mlp_mixer.models import mixer
from mlp_mixer.models.init import init
from mlp_mixer.runs import checkpoints
from mlp_mixer.runs.checkpointer import Checkpointer
from mlp_mixer.runs.checkpoints import TrainState
from mlp_mixer.runtime import storage
from mlp_mixer.runtime.storage import AnyPath
from tests.bucket import serving

OLDER, NEWER = 10, 20


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--cuts", type=int, default=50, help="and so many files deleted")
    parser.add_argument("--workdir", help="where; a temporary folder by default")
    parser.add_argument("--server", action="store_true", help="start a bucket gs://runs")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def make_states() -> dict[int, TrainState]:
    module = mixer.create(
        num_classes=10, image_size=32, patch_size=8, num_blocks=2, hidden_dim=64,
        tokens_mlp_dim=32, channels_mlp_dim=128,
    )  # fmt: skip
    states = {}
    for step in (OLDER, NEWER):
        params = init(module, step)
        grads = init(module, step + 1)
        _, opt_state = optax.adam(1e-3).update(grads, optax.adam(1e-3).init(params))
        states[step] = TrainState(jax.numpy.asarray(step, jax.numpy.int32), params, opt_state)
    return states


def flip_anywhere(files: list[AnyPath], sizes: list[int], rng: np.random.Generator) -> None:
    _flip(files[rng.choice(len(files), p=np.array(sizes) / sum(sizes))], rng)


def flip_in_any_file(files: list[AnyPath], sizes: list[int], rng: np.random.Generator) -> None:
    _flip(files[rng.integers(len(files))], rng)


def cut(files: list[AnyPath], sizes: list[int], rng: np.random.Generator) -> None:
    path = files[rng.integers(len(files))]
    data = path.read_bytes()
    path.write_bytes(data[: rng.integers(len(data))])


def delete(files: list[AnyPath], sizes: list[int], rng: np.random.Generator) -> None:
    files[rng.integers(len(files))].unlink()


def _flip(path: AnyPath, rng: np.random.Generator) -> None:
    data = bytearray(path.read_bytes())
    data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    path.write_bytes(data)


def _write(content: bytes, file: BinaryIO) -> None:
    file.write(content)


def same(a, b) -> bool:
    equal = jax.tree.map(lambda x, y: np.array_equal(np.asarray(x), np.asarray(y)), a, b)
    return all(jax.tree.leaves(equal))


def by_orbax(folder: AnyPath, like: TrainState, wanted: TrainState) -> str:
    try:
        handler = ocp.StandardCheckpointHandler()
        params, opt_state = (
            handler.restore(folder / name, args=ocp.args.StandardRestore(item))
            for name, item in (("params", like.params), ("opt_state", like.opt_state))
        )
    except Exception:  # of many types for many damages, and Orbax raises bare Exception, too
        return "raised"
    right = same((params, opt_state), (wanted.params, wanted.opt_state))
    return "right arrays" if right else "wrong arrays"


def main() -> None:
    logging.getLogger("mlp_mixer").setLevel(logging.CRITICAL)
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    # Of ten arrays that Orbax cannot read it raises one error; Python would print the other nine.
    sys.unraisablehook = lambda unraisable: None
    args = parse()
    rng = np.random.default_rng(args.seed)
    states = make_states()
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), states[NEWER]
    )
    shardings = jax.tree.map(lambda x: sharding, like)
    tries = {
        "bit flipped, any byte": (flip_anywhere, args.flips),
        "bit flipped, any file": (flip_in_any_file, args.flips),
        "file cut short": (cut, args.cuts),
        "file deleted": (delete, args.cuts),
    }
    rows = [("damage", "tries", "noticed", "right arrays", "Orbax alone")]
    failed = False
    with (
        tempfile.TemporaryDirectory() as temporary,
        serving() if args.server else contextlib.nullcontext(),
    ):
        top = storage.as_path(args.workdir or ("gs://runs/damage" if args.server else temporary))
        whole, copy = top / "whole", top / "copy"
        with Checkpointer(whole, keep=2) as run:
            for step, state in states.items():
                run.save(step, state)
        undamaged = by_orbax(whole / checkpoints.FOLDER / str(NEWER), like, states[NEWER])
        if undamaged != "right arrays":
            raise ValueError(f"Orbax alone, on the checkpoint before any damage: {undamaged}")
        # Read once: a bucket takes a tenth of a second for each file.
        contents = {name: (whole / name).read_bytes() for name in storage.files(whole)}
        newer = f"{checkpoints.FOLDER}/{NEWER}/"
        sizes = {
            name.removeprefix(newer): len(content)
            for name, content in contents.items()
            if name.startswith(newer) and content
        }
        for name, (harm, times) in tries.items():
            noticed, right, alone = 0, 0, collections.Counter()
            for _ in tqdm(range(times), name):
                for path, content in contents.items():
                    storage.write_whole(copy / path, partial(_write, content))
                folder = copy / checkpoints.FOLDER / str(NEWER)
                harm([folder / name for name in sizes], list(sizes.values()), rng)
                alone[by_orbax(folder, like, states[NEWER])] += 1
                with Checkpointer(copy) as run:
                    state = run.restore(like, shardings)
                noticed += checkpoints.all_steps(copy) == [OLDER]
                right += same(state, states[OLDER])
                storage.remove_tree(copy)
            failed |= noticed < times or right < times
            orbax = ", ".join(f"{count} {outcome}" for outcome, count in alone.most_common())
            rows.append((name, str(times), str(noticed), str(right), orbax))
    print(table(rows))
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
