"""From a source to batches: `train_batches` for ever, `eval_batches` once.

A batch is a dict of NumPy arrays: `image` uint8 [n, h, w, c], `label` int32 [n], and for evaluation
`mask` float32 [n], 0 where a row only fills up the last batch.

Training batch k is a pure function of (seed, k), on any number of processes or threads: resuming at
step k needs k and nothing else. Process p of P gets rows p * n/P to (p + 1) * n/P of each batch.
"""

import functools
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grain
import numpy as np
from tqdm import tqdm

from mlp_mixer.data import images
from mlp_mixer.data.augment import Augment
from mlp_mixer.data.sources import Source

Batch = dict[str, np.ndarray]


def train_batches(
    source: Source,
    augment: Augment,
    *,
    batch_size: int,
    seed: int,
    start: int = 0,
    in_memory: bool = False,
    process: tuple[int, int] = (0, 1),
    threads: int | None = None,
) -> Iterator[Batch]:
    """Yields this process's share of the training batches start, start + 1, ...

    Args:
        source: the examples; each epoch goes through them in a new order.
        augment: makes training images of a fixed size.
        batch_size: of the global batch, over all processes.
        seed: of order and augmentation.
        start: number of the first batch.
        in_memory: decode the whole source once, at the final size, and work on whole batches. Much
            faster for small images, but a crop chosen at the original size is not possible.
        process: (index, count) of this process among all.
        threads: that load and augment; one for each CPU by default.
    """
    index, count = process
    if batch_size % count:
        raise ValueError(f"batch size {batch_size} is not a multiple of the {count} processes")
    threads = threads or os.cpu_count() or 1
    share = batch_size // count
    rows = slice(index * share, (index + 1) * share)
    make_batch: Callable[[int], Batch]
    if in_memory:
        if augment.inception_crop:
            raise ValueError("augment.inception_crop needs in_memory=False")
        make_batch = _GatherBatch(*load_all(source, augment.size), augment, batch_size, rows, seed)
    else:
        order = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()
        examples = order.random_map(_LoadExample(source, augment))
        make_batch = _LoadBatch(examples, batch_size, rows)
    # Elements of the buffer are whole batches: grain's default of 500 would fill the memory.
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    return iter(grain.MapDataset.range(start, sys.maxsize).map(make_batch).to_iter_dataset(options))


class _GatherBatch:
    """The number of a batch to this process's rows of it, from images in memory.

    grain's own shuffle takes longer for an index than all the rest here for an image of 32 x 32.
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
        # Augmenting the whole batch keeps each example's randomness the same on any number of
        # processes; for images this small it costs little.
        rng = np.random.default_rng((self.seed, 1, k))
        augmented = self.augment.batch(self.pixels[indices], rng)
        return {"image": augmented[self.rows], "label": self.labels[indices[self.rows]]}


class _LoadExample:
    """The number of an example to its augmented image and label."""

    def __init__(self, source: Source, augment: Augment):
        self.source, self.augment = source, augment

    def __call__(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        image, label = self.source[int(index)]
        return self.augment.one(image, rng), label


class _LoadBatch:
    """The number of a batch to this process's rows of it."""

    def __init__(self, examples: grain.MapDataset, batch_size: int, rows: slice):
        self.examples, self.batch_size, self.rows = examples, batch_size, rows

    def __call__(self, k: int) -> Batch:
        first = k * self.batch_size
        loaded = [self.examples[first + row] for row in range(self.rows.start, self.rows.stop)]
        return _stack(loaded)


def eval_batches(
    source: Source,
    size: tuple[int, int],
    *,
    batch_size: int,
    crop: str = "resmall",
    crop_fraction: float = 1.0,
    process: tuple[int, int] = (0, 1),
    threads: int | None = None,
) -> Iterator[Batch]:
    """Yields this process's share of the batches that hold every example exactly once, in order.

    All batches have the same shape: the last one is filled up with zeros, marked in `mask`. See
    `images.eval_view` for crop and crop_fraction.
    """
    index, count = process
    if batch_size % count:
        raise ValueError(f"batch size {batch_size} is not a multiple of the {count} processes")
    share = batch_size // count
    threads = threads or os.cpu_count() or 1

    def load(i: int) -> tuple[np.ndarray, int]:
        image, label = source[i]
        return images.eval_view(image, size, crop, crop_fraction), label

    with ThreadPoolExecutor(threads) as pool:
        firsts = range(index * share, len(source) + index * share, batch_size)
        shares = [range(first, min(first + share, len(source))) for first in firsts]
        ahead = 2  # batches that are loaded while the device works
        pending = [[pool.submit(load, i) for i in part] for part in shares[:ahead]]
        for part in itertools.chain(shares[ahead:], [()] * min(ahead, len(shares))):
            batch = [future.result() for future in pending.pop(0)]
            pending.append([pool.submit(load, i) for i in part])
            yield _pad(batch, share, source, size)


def _pad(examples: list, share: int, source: Source, size: tuple[int, int]) -> Batch:
    image, label = examples[0] if examples else source[0]
    batch = {
        "image": np.zeros((share, *size, image.shape[-1]), np.uint8),
        "label": np.zeros((share, *np.shape(label)), np.uint8 if np.ndim(label) else np.int32),
        "mask": (np.arange(share) < len(examples)).astype(np.float32),
    }
    if examples:
        for key, array in _stack(examples).items():
            batch[key][: len(examples)] = array
    return batch


def _stack(examples: list[tuple[np.ndarray, int]]) -> Batch:
    pixels, labels = zip(*examples, strict=True)
    dtype = np.uint8 if np.ndim(labels[0]) else np.int32  # multi-hot, or a number
    return {"image": np.stack(pixels), "label": np.asarray(labels, dtype)}


def load_all(source: Source, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Decodes a whole source to uint8 [n, h, w, c] of one size, and int32 labels [n].

    Raises:
        ValueError: it would take over half of the machine's memory.
    """
    channels = source[0][0].shape[-1]
    need = len(source) * size[0] * size[1] * channels
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if need > have / 2:
        raise ValueError(
            f"{source.name}: {len(source)} images of {size[0]}x{size[1]} take {need / 2**30:.1f} "
            f"GiB of this machine's {have / 2**30:.1f}; set in_memory to False"
        )
    pixels = np.empty((len(source), *size, channels), np.uint8)
    labels = np.empty(len(source), np.int32)

    def load(i: int) -> None:
        image, labels[i] = source[i]
        pixels[i] = images.resize_and_crop(image, size, 1.0)

    with ThreadPoolExecutor() as pool:
        done = pool.map(load, range(len(source)))
        bar = tqdm(done, f"reading {source.name}", len(source), disable=None, leave=False)
        for _ in bar:
            pass
    return pixels, labels
