"""Small images in memory: our batch-at-a-time path against one grain element for each example.

    python -m benchmarks.in_memory

Both shuffle, pad by 4 and crop, and flip 50,000 random images of 32 x 32 in batches of 512, and
prefetch with two threads. Prints images per CPU-second; the runs take turns, the ratio is the
median of the pairs.
"""

import itertools
import statistics
import time

import cv2
import grain
import numpy as np

from mlp_mixer.data import pipeline
from mlp_mixer.data.augment import Augment

COUNT, BATCH, BATCHES, ROUNDS = 50_000, 512, 60, 5
AUGMENT = Augment((32, 32), pad_crop=4, flip=True)


class Pixels:
    """A source of random images."""

    name, class_names = "random", ("a", "b")

    def __init__(self):
        rng = np.random.default_rng(0)
        self.pixels = rng.integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8)

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        return self.pixels[index], index % 2

    def labels(self):
        return np.arange(COUNT, dtype=np.int32) % 2


def ours(source):
    return pipeline.train_batches(
        source,
        AUGMENT,
        batch_size=BATCH,
        seed=0,
        in_memory=True,
        reading=pipeline.Reading(threads=2),
    )


def per_element(source):
    """The usual grain pipeline: shuffle, one random_map for each example, batch.

    Its changes are the quickest for a single image, by cv2.
    """

    def load(index, rng):
        image, label = source[int(index)]
        padded = cv2.copyMakeBorder(image, 4, 4, 4, 4, cv2.BORDER_REFLECT_101)
        top, left, mirrored = rng.integers((9, 9, 2))
        image = padded[top : top + 32, left : left + 32]
        return {"image": image[:, ::-1] if mirrored else image, "label": np.int32(label)}

    order = grain.MapDataset.range(COUNT).seed(0).shuffle().repeat()
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
    return iter(order.random_map(load).batch(BATCH).to_iter_dataset(options))


def images_per_cpu_second(stream) -> float:
    next(stream)  # start-up is not what is compared
    start = time.process_time()
    for _ in itertools.islice(stream, BATCHES):
        pass
    return BATCH * BATCHES / (time.process_time() - start)


def main() -> None:
    source = Pixels()
    pairs = [
        (images_per_cpu_second(ours(source)), images_per_cpu_second(per_element(source)))
        for _ in range(ROUNDS)
    ]
    for column, name in enumerate(("in memory", "grain, one element each")):
        median = statistics.median(pair[column] for pair in pairs)
        print(f"{name:<26}{median:>10.0f} images/CPU-s")
    ratios = [a / b for a, b in pairs]
    print(f"ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
