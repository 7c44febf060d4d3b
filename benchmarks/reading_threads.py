"""How many images per second threads can read for an evaluation, however many CPUs there are.

    python -m benchmarks.reading_threads [--images FOLDER_OR_TAR]

Decoding and resizing are replaced by waiting for as long as they take, without Python's lock, which
threads take turns to hold for all the rest. What remains is the limit of one process, and the
reason for worker processes on machines with many CPUs.
"""

import argparse
import time

import cv2
import numpy as np

from benchmarks import photographs
from mlp_mixer.cli import output
from mlp_mixer.data import pipeline

DECODE, RESIZE = 0.002, 0.0005  # seconds; about those of an ImageNet photograph
COUNT, SIZE = 4000, (224, 224)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", help="a folder or .tar of JPEG photographs")
    files = photographs.read(parser.parse_args().images, 200)
    decoded = {len(file): cv2.imdecode(np.frombuffer(file, np.uint8), 1) for file in files}

    def decode(data: np.ndarray, flags: int) -> np.ndarray:
        time.sleep(DECODE)
        return decoded[data.size]

    def resize(image: np.ndarray, size: tuple[int, int], interpolation: int = 0) -> np.ndarray:
        time.sleep(RESIZE)
        return np.empty((size[1], size[0], 3), np.uint8)

    cv2.imdecode, cv2.resize = decode, resize
    source = photographs.Photographs((files * (COUNT // len(files)))[:COUNT])
    rows = [("threads", "images/s", "images/CPU-s")]
    for threads in (1, 4, 16, 64):
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in pipeline.eval_batches(
            source, SIZE, batch_size=128, crop_fraction=0.875,
            reading=pipeline.Reading(threads=threads),
        ):  # fmt: skip
            pass
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        rows.append((f"{threads}", f"{COUNT / wall:.0f}", f"{COUNT / cpu:.0f}"))
    print(output.table(rows))


if __name__ == "__main__":
    main()
