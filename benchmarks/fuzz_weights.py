"""Damages small valid weight files in many ways and loads them.

    python benchmarks/fuzz_weights.py [--mutations 2000] [--seed 0]

Each damaged file must either be refused with a ValueError or give exactly the module and the
weights of the valid one, within 2 seconds and without growing the process by much. Anything else is
printed, kept in the folder ./fuzz-failures, and makes the exit status 1. Mutations are spread over
.npz files (stored and compressed, both layouts, three dtypes) and .safetensors files.
"""

import argparse
import logging
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import ml_dtypes
import numpy as np
from flax import traverse_util

import mlp_mixer
from mlp_mixer.cli import output
from mlp_mixer.models.init import shapes
from mlp_mixer.weights import naming, npz, safetensors
from mlp_mixer.weights.save import settings_of

SECONDS, MEGABYTES = 2.0, 100
EDGES = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"\0\0\xc0\x7f",
    b"{",
    b'"',
)


def valid_files(folder: Path) -> list[Path]:
    """Small Mixers in every format, layout and dtype."""
    module = mlp_mixer.create(
        num_classes=3,
        image_size=(4, 6),
        patch_size=2,
        num_blocks=2,
        hidden_dim=4,
        tokens_mlp_dim=3,
        channels_mlp_dim=5,
        gelu="exact",
    )
    rng = np.random.default_rng(0)
    params = {
        name: rng.standard_normal(shape, np.float32) for name, shape in shapes(module).items()
    }
    half = {name: array.astype(np.float16) for name, array in params.items()}
    brain = {name: array.astype(ml_dtypes.bfloat16) for name, array in params.items()}
    names = {"class_names": ["a", "b", "c"]}
    settings = settings_of(module) | names | {"history": [{"source": "x", "sha256": "0"}]}
    npz.write(folder / "linen.npz", params, settings)
    npz.write(folder / "pre-linen.npz", naming.to_layout(brain, "pre-linen"), settings)
    safetensors.write(
        folder / "timm.safetensors", naming.to_layout(params, "timm"), settings | {"gelu": "tanh"}
    )
    safetensors.write(folder / "half.safetensors", naming.to_layout(half, "timm"), settings)
    # Files of other tools have no settings, so their tokens must form a square.
    square = {name: _square(name, array) for name, array in params.items()}
    np.savez_compressed(folder / "compressed.npz", **square)
    return sorted(folder.iterdir())


def _square(name: str, array: np.ndarray) -> np.ndarray:
    axis = {"Dense_0/kernel": 0, "Dense_1/kernel": 1, "Dense_1/bias": 0}
    part = name.partition("token_mixing/")[2]
    return array.take(range(4), axis[part]) if part in axis else array


def mutate(data: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """One damage of a kind that disks, connections and attackers do."""
    at, length = int(rng.integers(len(data))), int(rng.integers(1, 64))
    other, kind = int(rng.integers(len(data))), int(rng.integers(9))
    if rng.random() < 0.3:  # tables and headers deserve more than their share of the bytes
        at = int(rng.choice([at % 2000, max(0, len(data) - 1 - at % 3000)]))
    before, after = data[:at], data[at:]
    if kind == 0:
        return "bit", before + bytes([after[0] ^ (1 << int(rng.integers(8)))]) + after[1:]
    if kind == 1:
        return "byte", before + rng.bytes(1) + after[1:]
    if kind == 2:
        return "noise", before + rng.bytes(min(length, len(after))) + after[length:]
    if kind == 3:
        return "cut", before
    if kind == 4:
        return "hole", before + after[length:]
    if kind == 5:
        return "insert", before + rng.bytes(length) + after
    if kind == 6:
        return "zeros", before + bytes(min(length, len(after))) + after[length:]
    if kind == 7:
        return "copy", before + data[other : other + length] + after[length:]
    edge = EDGES[int(rng.integers(len(EDGES)))]
    return "edge", before + edge + after[len(edge) :]


def fuzz(folder: Path, mutations: int, seed: int) -> Iterator[tuple[str, str, str, bytes]]:
    """For each mutation (file, kind, outcome, damaged bytes); outcomes other than OUTCOMES fail."""
    rng = np.random.default_rng(seed)
    files = valid_files(folder)
    truth = [(path.read_bytes(), mlp_mixer.load(path)) for path in files]
    for number in range(mutations):
        path, (data, want) = files[number % len(files)], truth[number % len(files)]
        kind, damaged = mutate(data, rng)
        path.write_bytes(damaged)
        begin = time.perf_counter()
        try:
            outcome = "same weights" if same(mlp_mixer.load(path), want) else "OTHER WEIGHTS"
        except ValueError:
            outcome = "ValueError"
        except Exception as error:  # this is what is looked for
            outcome = f"{type(error).__name__}: {error}"
        if time.perf_counter() - begin > SECONDS:
            outcome = "TOO SLOW"
        yield path.name, kind, outcome, damaged


OUTCOMES = ("ValueError", "same weights")


def same(have: tuple[Any, Any], want: tuple[Any, Any]) -> bool:
    """Whether two results of `load` are the same module and the same numbers."""
    a, b = (traverse_util.flatten_dict(params) for _, params in (have, want))
    return (
        have[0] == want[0]
        and a.keys() == b.keys()
        and all(np.array_equal(a[name], b[name]) for name in a)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.disable()
    jax.devices()  # so that its memory is not counted below
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts: Counter[tuple[str, str]] = Counter()
    failures = Path("fuzz-failures")
    with TemporaryDirectory() as folder:
        for name, kind, outcome, damaged in fuzz(Path(folder), args.mutations, args.seed):
            counts[kind, outcome if outcome in OUTCOMES else "FAILED"] += 1
            if outcome not in OUTCOMES:
                failures.mkdir(exist_ok=True)
                kept = failures / f"{sum(counts.values())}-{kind}-{name}"
                kept.write_bytes(damaged)
                print(f"{kept}: {outcome}")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    columns = (*OUTCOMES, "FAILED")
    rows = [
        (kind, *(str(counts[kind, c]) for c in columns)) for kind in sorted({k for k, _ in counts})
    ]
    print(output.table([("damage", *columns), *rows]))
    print(f"{args.mutations} mutations; the process grew by {grown} MB")
    failed = sum(n for (_, outcome), n in counts.items() if outcome == "FAILED")
    sys.exit(1 if failed or grown > MEGABYTES else 0)


if __name__ == "__main__":
    main()
