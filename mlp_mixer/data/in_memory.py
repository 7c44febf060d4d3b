"""Training batches from a source that is decoded once, at its final size, and kept in memory.

For small images this is much faster than reading them again in each epoch (`pipeline`). Random
crops at the original size are not possible.
"""

import functools
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grain
import numpy as np
from tqdm import tqdm

from mlp_mixer.data import examples
from mlp_mixer.data.augment import Augment
from mlp_mixer.data.examples import Broken
from mlp_mixer.data.sources import Source
from mlp_mixer.data.workers import Batch


def train_batches(
    source: Source,
    augment: Augment,
    *,
    batch_size: int,
    rows: slice,
    seed: int,
    start: int = 0,
    threads: int | None = None,
    skip_broken: bool = False,
) -> Iterator[Batch]:
    """Yields rows of the training batches start, start + 1, ...; see `pipeline` for their format.

    Args:
        source: the examples; each epoch goes through them in a new order.
        augment: augmentation, applied to whole batches of images of a fixed size.
        batch_size: examples in a global batch, over all processes.
        rows: the rows of each global batch to yield.
        seed: seeds the order of examples and the augmentation.
        start: number of the first batch.
        threads: number of threads that make batches; one per CPU by default.
        skip_broken: whether to leave out and log broken images, instead of raising.

    Raises:
        ValueError: the augmentation crops, or the images need more than half of the memory.
        images.BrokenImage: an image is broken.
    """
    if augment.crops:
        raise ValueError("augment.inception_crop and augment.random_crop need data.in_memory=False")
    pixels, labels = load_all(source, augment.size, skip_broken)
    make_batch = _GatherBatch(pixels, labels, augment, batch_size, rows, seed)
    threads = threads or os.cpu_count() or 1
    # The buffer holds whole batches: grain's default of 500 would fill the memory.
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    numbers = grain.MapDataset.range(start, sys.maxsize)
    return iter(numbers.map(make_batch).to_iter_dataset(options))


class _GatherBatch:
    """Maps the number of a batch to this process's rows of it.

    Shuffles by itself: for an image of 32 x 32, grain's shuffle takes longer to find one index than
    all the rest here.
    """

    def __init__(self, pixels, labels, augment, batch_size, rows, seed):
        self.pixels, self.labels, self.augment = pixels, labels, augment
        self.batch_size, self.rows, self.seed = batch_size, rows, seed
        self.shuffled = functools.lru_cache(maxsize=4)(self._shuffled)

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self.seed, 0, epoch)).permutation(len(self.labels))

    def __call__(self, k: int) -> Batch:
        positions = np.arange(k * self.batch_size, (k + 1) * self.batch_size)
        epochs, positions = np.divmod(positions, len(self.labels))
        orders = [
            self.shuffled(int(epoch))[positions[epochs == epoch]] for epoch in np.unique(epochs)
        ]
        indices = np.concatenate(orders)
        # Augmenting the whole batch makes the randomness independent of the number of processes;
        # for images this small it costs little.
        rng = np.random.default_rng((self.seed, 1, k))
        augmented = self.augment.batch(self.pixels[indices], rng)
        return {"image": augmented[self.rows], "label": self.labels[indices[self.rows]]}


def load_all(
    source: Source, size: tuple[int, int], skip_broken: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Decodes a whole source to images, uint8 [n, *size, c], and labels, [n] or [n, classes].

    With skip_broken, broken images are left out and logged.

    Raises:
        ValueError: the images need more than half of the machine's memory.
        images.BrokenImage: an image is broken.
    """
    first = examples.read_good(source, range(len(source)), skip_broken)
    channels = first.image.shape[-1]
    need = len(source) * size[0] * size[1] * channels
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if need > have / 2:
        raise ValueError(
            f"{source.name}: {len(source)} images of {size[0]}x{size[1]} take {need / 2**30:.1f} "
            f"GiB of this machine's {have / 2**30:.1f}; set data.in_memory to False"
        )
    pixels = np.empty((len(source), *size, channels), np.uint8)

    def load_into(i: int) -> tuple:
        example = examples.read_view(source, i, size, skip_broken=skip_broken)
        if isinstance(example, Broken):
            return None, example.broken
        pixels[i] = example.image
        return example.label, example.broken

    broken_log = examples.BrokenLog()
    with ThreadPoolExecutor() as pool:
        done = pool.map(load_into, range(len(source)))
        bar = tqdm(done, f"reading {source.name}", len(source), disable=None, leave=False)
        labels = []
        for label, broken in bar:
            broken_log.add(broken)
            labels.append(label)
    good = [i for i, label in enumerate(labels) if label is not None]
    if len(good) < len(labels):
        pixels, labels = pixels[good], [labels[i] for i in good]
    return pixels, examples.stack_labels(labels)
