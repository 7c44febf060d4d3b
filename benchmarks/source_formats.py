"""Images a second from each format of data set: class folders, ArrayRecord, Arrow, tar shards.

    python -m benchmarks.source_formats [--images FOLDER_OR_TAR] [--count 2000]

The same JPEG files are written in every format. Each measurement is a process of its own, and the
formats take turns: it opens the source, reads two batches to warm up, and then counts. `reading`
takes the encoded files alone, in random order in one thread; `batches` are training batches of 128
(Inception crop to 224, flip) from one thread, or from two worker processes. The files are in the
page cache, so this compares the formats' own cost, and not disks.
"""

import argparse
import io
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import photographs
from benchmarks.input_pipeline import _cpu_seconds
from benchmarks.ratios import spread
from mlp_mixer.cli import output
from mlp_mixer.cli.main import guard
from mlp_mixer.data import pipeline
from mlp_mixer.data.augment import Augment
from mlp_mixer.data.prepare.prepare import prepare
from mlp_mixer.data.sources import open_source

SIZE, BATCH, WARM_UP, BATCHES, CLASSES, SHARD = (224, 224), 128, 2, 6, 10, 500
TIMES = 20  # that each file is read
FORMATS = ("folder", "tfds", "hf", "wds")
# Name, and number of threads and workers; None where encoded files are read.
HOW = {"reading": None, "batches, 1 thread": (1, 0), "batches, 2 workers": (None, 2)}


def write(files: list[bytes], root: Path) -> None:
    """Writes the files in every format."""
    import datasets

    for i, data in enumerate(files):
        path = root / "folder" / "train" / str(i % CLASSES) / f"{i:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    prepare(f"folder:{root / 'folder'}", name="packed", data_dir=root / "tfds")
    rows = {
        "image": [{"bytes": data, "path": f"{i:06}.jpg"} for i, data in enumerate(files)],
        "label": [i % CLASSES for i in range(len(files))],
    }
    names = list(map(str, range(CLASSES)))
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=names))
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(root / "hf")
    (root / "wds").mkdir()
    for first in range(0, len(files), SHARD):
        with tarfile.open(root / "wds" / f"train-{first // SHARD:06}.tar", "w") as tar:
            for i, data in enumerate(files[first : first + SHARD], first):
                for suffix, content in (("jpg", data), ("cls", str(i % CLASSES).encode())):
                    info = tarfile.TarInfo(f"{i:06}.{suffix}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))


def spec(kind: str, root: Path) -> str:
    return "tfds:packed" if kind == "tfds" else f"{kind}:{root / kind}"


def measure_one(root: Path, kind: str, how: str) -> None:
    """Prints seconds to open the source, and images per CPU-second and per second."""
    start = time.perf_counter()
    source: Any = open_source(spec(kind, root), "train")
    opened = time.perf_counter() - start
    if HOW[how] is None:
        order = np.random.RandomState(0).permutation(len(source)).tolist()
        read = (lambda i: source._read(i, "")) if kind == "tfds" else source.read
        for index in order:
            read(index)
        cpu, wall, count = _cpu_seconds(), time.perf_counter(), TIMES * len(order)
        for index in TIMES * order:
            read(index)
    else:
        threads, workers = HOW[how]
        stream = pipeline.train_batches(
            source, Augment(SIZE, inception_crop=0.05, flip=True), batch_size=BATCH, seed=0,
            reading=pipeline.Reading(threads=threads, workers=workers),
        )  # fmt: skip
        for _ in range(WARM_UP):
            next(stream)
        cpu, wall, count = _cpu_seconds(), time.perf_counter(), BATCH * BATCHES
        for _ in range(BATCHES):
            next(stream)
    cpu, wall = _cpu_seconds() - cpu, time.perf_counter() - wall
    print(opened, count / cpu, count / wall)


def measure(args: argparse.Namespace) -> None:
    if args.one:
        root, kind, how = args.one
        return measure_one(Path(root), kind, how)
    found: dict[tuple[str, str], list] = {}
    with tempfile.TemporaryDirectory() as folder:
        write(photographs.read(args.images, args.count), Path(folder))
        here = os.environ | {"TFDS_DATA_DIR": f"{folder}/tfds", "MLP_MIXER_CACHE": f"{folder}/c"}
        for _ in range(args.rounds):
            for how in HOW:
                for kind in FORMATS:
                    command = [sys.executable, "-m", "benchmarks.source_formats", "--one", folder]
                    out = subprocess.run(
                        [*command, kind, how], capture_output=True, text=True, env=here, check=False
                    )
                    if out.returncode:
                        raise ValueError(f"{kind}, {how} failed:\n{out.stderr[-2000:]}")
                    numbers = [float(x) for x in out.stdout.split()]
                    found.setdefault((how, kind), []).append(numbers)
                    print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    rows = [("what", "format", "images/CPU-s", "to folder (least to most)", "images/s", "open s")]
    for (how, kind), runs in found.items():
        opened, per_cpu, per_second = map(statistics.median, zip(*runs, strict=True))
        base = [run[1] for run in found[how, "folder"]]
        ratios = [run[1] / other for run, other in zip(runs, base, strict=True)]
        rows.append(
            (how, kind, f"{per_cpu:.0f}", spread(ratios), f"{per_second:.0f}", f"{opened:.2f}")
        )  # fmt: skip
    print(output.table(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", help="a folder or .tar of JPEG photographs")
    parser.add_argument("--count", type=int, default=2000, help="files, repeated if need be")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    sys.exit(guard(measure, parser.parse_args()))


if __name__ == "__main__":
    main()
