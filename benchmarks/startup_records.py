"""Start-up on 14 million examples (ImageNet-21k): seconds to the first batch, and memory.

    python -m benchmarks.startup_records [--count 14000000]

The examples are made up: the numbers of their files and their labels are memory-mapped, as an index
of a data set would be, and every image is the same JPEG. Each row is
a process of its own, with imports left out.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import photographs
from mlp_mixer.cli import output
from mlp_mixer.cli.main import guard
from mlp_mixer.data import images, pipeline
from mlp_mixer.data.augment import Augment

BATCH, CLASSES = 128, 21_843
AUGMENT = Augment((224, 224), inception_crop=0.05, flip=True)
STARTS = {"the first batch": 0, "after 1,000,000 steps": 1_000_000}


class Listed:
    """A source whose index is memory-mapped; it is pickled as its folder."""

    def __init__(self, folder: Path):
        self.name, self.class_names = f"{folder}", tuple(map(str, range(CLASSES)))
        self._folder = folder
        self._files = np.load(folder / "files.npy", mmap_mode="r")
        self._labels = np.load(folder / "labels.npy", mmap_mode="r")
        self._jpeg = photographs.read(None, 1)[0]

    def __reduce__(self):
        return type(self), (self._folder,)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        where = f"{self._files[index]:08}.jpg"
        return images.decode(self._jpeg, 3, where), int(self._labels[index])

    def labels(self) -> np.ndarray:
        return self._labels


def write_index(folder: Path, count: int) -> None:
    np.save(folder / "files.npy", np.random.default_rng(0).permutation(count).astype(np.uint32))
    np.save(folder / "labels.npy", np.arange(count, dtype=np.int32) % CLASSES)


def measure_one(folder: Path, start: int, workers: int) -> None:
    """Prints seconds to the first batch, and MB of memory before and after."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    begun = time.perf_counter()
    stream = pipeline.train_batches(
        Listed(folder),
        AUGMENT,
        batch_size=BATCH,
        seed=0,
        start=start,
        reading=pipeline.Reading(workers=workers),
    )
    next(stream)
    seconds = time.perf_counter() - begun
    print(seconds, before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    del stream  # ends its worker processes


def measure(args: argparse.Namespace) -> None:
    if args.one:
        folder, start, workers = args.one
        return measure_one(Path(folder), int(start), int(workers))
    rows = [("14 M examples" if args.count == 14_000_000 else f"{args.count} examples",
             "seconds", "MB before", "MB after")]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        write_index(Path(folder), args.count)
        for workers in (0, 2):
            for name, start in STARTS.items():
                command = [sys.executable, "-m", "benchmarks.startup_records", "--one", folder]
                out = subprocess.run(
                    [*command, str(start), str(workers)], capture_output=True, text=True, check=True
                )
                kind = f"{workers} workers" if workers else "threads"
                seconds, before, after = map(float, out.stdout.split())
                rows.append((f"{name}, {kind}", f"{seconds:.2f}", f"{before:.0f}", f"{after:.0f}"))
    print(output.table(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=14_000_000)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    sys.exit(guard(measure, parser.parse_args()))


if __name__ == "__main__":
    main()
