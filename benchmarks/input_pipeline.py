"""Training images for each CPU-second: our pipeline against the same recipe in tf.data.

    python -m benchmarks.input_pipeline [--images FOLDER_OR_TAR] [--big-vision CHECKOUT]

The recipe is the paper's for ImageNet: decode a JPEG, Inception crop to 224, flip, RandAugment(2,
15), batches of 128 in uint8. tf.data (needs tensorflow-cpu) decodes only the crop, as the reference
does, and takes RandAugment from a checkout of big_vision; without --big-vision both sides leave it
out. The files are in memory. Each measurement is a process of its own, the sides take turns; CPU
time is that of all threads and worker processes, after two batches to warm up.
"""

import argparse
import itertools
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import time
import types

import numpy as np

from benchmarks import photographs
from benchmarks.ratios import spread
from mlp_mixer.cli import output
from mlp_mixer.cli.main import guard
from mlp_mixer.data import pipeline
from mlp_mixer.data.augment import Augment

SIZE, BATCH, WARM_UP, BATCHES = (224, 224), 128, 2, 8
# Name, threads, workers; tf.data comes first.
SIDES = {
    "tf.data, 2 threads": (2, None),
    "ours, 1 thread": (1, 0),
    "ours, 2 threads": (2, 0),
    "ours, 1 worker": (None, 1),
    "ours, 2 workers": (None, 2),
}


def ours(files: list[bytes], randaugment: bool, threads: int | None, workers: int):
    augment = Augment(
        SIZE,
        inception_crop=0.05,
        flip=True,
        randaugment_layers=2 if randaugment else 0,
        randaugment_magnitude=15,
    )
    return pipeline.train_batches(
        photographs.Photographs(files), augment, batch_size=BATCH, seed=0,
        reading=pipeline.Reading(threads=threads, workers=workers),
    )  # fmt: skip


def tf_data(files: list[bytes], big_vision: str | None, threads: int):
    import tensorflow as tf

    distort = _reference_randaugment(big_vision) if big_vision else None

    def augment(data, label):
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.image.extract_jpeg_shape(data),
            tf.zeros([0, 0, 4]),
            area_range=(0.05, 1),
            aspect_ratio_range=(0.75, 1.33),
            min_object_covered=0,
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.concat([begin[:2], size[:2]], 0)
        image = tf.io.decode_and_crop_jpeg(data, window, channels=3)
        image = tf.cast(tf.image.resize(image, SIZE), tf.uint8)
        image = tf.image.random_flip_left_right(image)
        if distort:
            image = distort(tf.ensure_shape(image, (*SIZE, 3)), 2, 15)
        return {"image": image, "label": label}

    labels = np.arange(len(files), dtype=np.int32) % 2
    data = tf.data.Dataset.from_tensor_slices((files, labels)).repeat().shuffle(len(files))
    data = data.map(augment, num_parallel_calls=threads).batch(BATCH).prefetch(2)
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    return data.with_options(options).as_numpy_iterator()


def _reference_randaugment(checkout: str):
    """big_vision's RandAugment, with the part of tensorflow_addons (now gone) that it calls."""
    import tensorflow as tf

    def transform(image, matrix):
        moved = tf.raw_ops.ImageProjectiveTransformV3(
            images=image[None],
            transforms=tf.reshape(tf.stack([tf.cast(x, tf.float32) for x in matrix]), (1, 8)),
            output_shape=tf.shape(image)[:2],
            interpolation="NEAREST",
            fill_mode="CONSTANT",
            fill_value=0.0,
        )
        return moved[0]

    def translate(image, shift):
        return transform(image, [1, 0, -shift[0], 0, 1, -shift[1], 0, 0])

    def rotate(image, angle):
        cos, sin = tf.cos(angle), tf.sin(angle)
        bottom, right = (tf.cast(tf.shape(image)[i] - 1, tf.float32) for i in (0, 1))
        across = (right - (cos * right - sin * bottom)) / 2
        down = (bottom - (sin * right + cos * bottom)) / 2
        return transform(image, [cos, -sin, across, sin, cos, down, 0, 0])

    addons = types.ModuleType("tensorflow_addons")
    image = types.SimpleNamespace(transform=transform, translate=translate, rotate=rotate)
    vars(addons)["image"] = image
    sys.modules["tensorflow_addons"] = addons
    sys.path.insert(0, checkout)
    from big_vision.pp.archive import autoaugment

    return autoaugment.distort_image_with_randaugment


# --- measuring ------------------------------------------------------------------------------------


def measure_one(args: argparse.Namespace) -> None:
    """Prints images per CPU-second and per second, seconds to the first batch, and peak MB."""
    threads, workers = SIDES[args.side]
    files = photographs.read(args.images, args.count)
    start = time.perf_counter()
    if args.side.startswith("tf.data"):
        stream = tf_data(files, args.big_vision, threads)
    else:
        stream = ours(files, bool(args.big_vision), threads, workers)
    next(stream)
    first = time.perf_counter() - start
    for _ in range(WARM_UP - 1):
        next(stream)
    cpu, wall = _cpu_seconds(), time.perf_counter()
    for batch in itertools.islice(stream, BATCHES):
        assert batch["image"].shape == (BATCH, *SIZE, 3) and batch["image"].dtype == np.uint8
    images = BATCH * BATCHES
    cpu, wall = _cpu_seconds() - cpu, time.perf_counter() - wall
    peak = sum(_peak_megabytes(pid) for pid in _processes())
    print(images / cpu, images / wall, first, peak)
    sys.stdout.flush()
    stream.close() if hasattr(stream, "close") else None


def _processes() -> list[int]:
    return [os.getpid(), *(child.pid for child in multiprocessing.active_children())]


def _cpu_seconds() -> float:
    ticks = os.sysconf("SC_CLK_TCK")
    total = 0.0
    for pid in _processes():
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / ticks
    return total


def _peak_megabytes(pid: int) -> float:
    if pid == os.getpid():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024


def measure(args: argparse.Namespace) -> None:
    if args.side:
        return measure_one(args)
    found: dict[str, list] = {}
    for _ in range(args.rounds):
        for side in SIDES:
            command = [sys.executable, "-m", "benchmarks.input_pipeline", *sys.argv[1:]]
            out = subprocess.run(
                [*command, "--side", side], capture_output=True, text=True, check=False
            )
            if out.returncode:
                raise ValueError(f"{side} failed:\n{out.stderr[-2000:]}")
            found.setdefault(side, []).append([float(x) for x in out.stdout.split()])
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    rows = [("side", "images/CPU-s", "ratio to tf.data", "images/s", "first batch s", "peak MB")]
    reference = [run[0] for run in next(iter(found.values()))]
    for side, runs in found.items():
        per_cpu, per_second, first, peak = (
            statistics.median(column) for column in zip(*runs, strict=True)
        )
        ratios = [run[0] / base for run, base in zip(runs, reference, strict=True)]
        rows.append(
            (side, f"{per_cpu:.0f}", spread(ratios), f"{per_second:.0f}", f"{first:.1f}",
             f"{peak:.0f}")
        )  # fmt: skip
    print(output.table(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", help="a folder or .tar of JPEG photographs")
    parser.add_argument("--count", type=int, default=1000, help="files, repeated if need be")
    parser.add_argument("--big-vision", metavar="CHECKOUT", help="for RandAugment in tf.data")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    sys.exit(guard(measure, parser.parse_args()))


if __name__ == "__main__":
    main()
