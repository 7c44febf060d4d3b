"""From a source to batches: `train_batches` for ever, `eval_batches` once.

A batch is a dict of NumPy arrays: `image` uint8 [n, h, w, c], `label` int32 [n] (or multi-hot uint8
[n, num_classes], as the source has it), and for evaluation `mask` float32 [n], 0 where a row only
fills up the last batch or its image is broken.

Training batch k is a pure function of (seed, k), on any number of processes, workers or threads:
resuming at step k needs k and nothing else. Process p of P gets rows p * n/P to (p + 1) * n/P of
each batch.
"""

import functools
import itertools
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grain
import numpy as np
from tqdm import tqdm

from mlp_mixer.data import examples, images
from mlp_mixer.data import workers as worker_pools
from mlp_mixer.data.augment import Augment
from mlp_mixer.data.examples import Example
from mlp_mixer.data.sources import Source
from mlp_mixer.data.workers import Batch


def train_batches(
    source: Source,
    augment: Augment,
    *,
    batch_size: int,
    seed: int,
    start: int = 0,
    in_memory: bool = False,
    process: tuple[int, int] = (0, 1),
    workers: int = 0,
    threads: int | None = None,
    skip_broken: bool = False,
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
        workers: processes that load and augment; 0 does it in threads of this process, which is
            as fast up to a handful of CPUs.
        threads: where there are no workers; one for each CPU by default.
        skip_broken: put the next example in the place of one whose image is broken, and name it in
            the log, instead of raising.

    Raises:
        ValueError: what is asked for is not possible.
        images.BrokenImage: an image is broken.
        OSError: an image cannot be read, or a worker process died.
    """
    share, rows = _share(batch_size, process)
    if in_memory:
        if augment.crops:
            raise ValueError(
                "augment.inception_crop and augment.random_crop need data.in_memory=False"
            )
        if workers:
            raise ValueError(
                f"data.in_memory=True works in threads; set data.workers to 0, not {workers}"
            )
        everything = load_all(source, augment.size, skip_broken)
        make_batch = _GatherBatch(*everything, augment, batch_size, rows, seed)
        threads = threads or os.cpu_count() or 1
        # Elements of the buffer are whole batches: grain's default of 500 would fill the memory.
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
        numbers = grain.MapDataset.range(start, sys.maxsize)
        return iter(numbers.map(make_batch).to_iter_dataset(options))
    firsts = itertools.count(start * batch_size + rows.start, batch_size)
    return _without_mask(
        _fill(
            source,
            _TrainExamples(source, augment, seed, skip_broken),
            (range(first, first + share) for first in firsts),
            share,
            augment.size,
            skip_broken,
            workers,
            threads,
        )
    )


def eval_batches(
    source: Source,
    size: tuple[int, int],
    *,
    batch_size: int,
    crop: str = "resmall",
    crop_fraction: float = 1.0,
    process: tuple[int, int] = (0, 1),
    workers: int = 0,
    threads: int | None = None,
    skip_broken: bool = False,
) -> Iterator[Batch]:
    """Yields this process's share of the batches that hold every example exactly once, in order.

    All batches have the same shape: the last one is filled up with zeros, marked in `mask`. See
    `images.eval_view` for crop and crop_fraction, `train_batches` for the rest; with skip_broken
    broken images are left out: their mask is 0.
    """
    images.check_crop(crop, crop_fraction)
    share, rows = _share(batch_size, process)
    count = len(source)
    firsts = range(rows.start, count + rows.start, batch_size)
    return _fill(
        source,
        _EvalExamples(source, size, crop, crop_fraction, skip_broken),
        (range(min(first, count), min(first + share, count)) for first in firsts),
        share,
        size,
        skip_broken,
        workers,
        threads,
    )


def _share(batch_size: int, process: tuple[int, int]) -> tuple[int, slice]:
    """How many rows of a global batch a process has, and which."""
    index, count = process
    if batch_size < 1 or batch_size % count:
        raise ValueError(
            f"batch_size={batch_size} is not a positive multiple of the {count} processes"
        )
    share = batch_size // count
    return share, slice(index * share, (index + 1) * share)


def _fill(source, load, batches, rows, size, skip_broken, workers, threads) -> Iterator[Batch]:
    first = examples.read_good(source, range(len(source)), skip_broken)
    like = Example(np.empty((*size, first.image.shape[-1]), np.uint8), first.label)
    yield from worker_pools.fill_batches(
        load, batches, rows, like, workers=workers, threads=threads
    )


def _without_mask(batches: Iterator[Batch]) -> Iterator[Batch]:
    for batch in batches:
        del batch["mask"]  # training has no rows that only fill up
        yield batch


class _TrainExamples:
    """The number of an example since the start of training to its augmented image."""

    def __init__(self, source: Source, augment: Augment, seed: int, skip_broken: bool):
        self._source, self._augment, self._seed = source, augment, seed
        self._skip_broken = skip_broken

    def __reduce__(self):  # grain's data set is made anew in each worker process
        return type(self), (self._source, self._augment, self._seed, self._skip_broken)

    @functools.cached_property
    def _examples(self) -> grain.MapDataset:
        order = grain.MapDataset.range(len(self._source)).seed(self._seed).shuffle().repeat()
        return order.random_map(self._load)

    def _load(self, index: int, rng: np.random.Generator) -> Example:
        # The next ones stand in for a broken image: the same on every process, run and epoch.
        indices = (i % len(self._source) for i in itertools.count(int(index)))
        example = examples.read_good(self._source, indices, self._skip_broken)
        return example._replace(image=self._augment.one(example.image, rng))

    def __call__(self, position: int) -> Example:
        return self._examples[position]


class _EvalExamples:
    """The index of an example to its evaluation view."""

    def __init__(self, source: Source, size, crop: str, fraction: float, skip_broken: bool):
        self._source, self._view = source, (size, crop, fraction)
        self._skip_broken = skip_broken

    def __call__(self, index: int) -> Example:
        try:
            image, label = examples.read(self._source, index)
        except images.BrokenImage as error:
            if not self._skip_broken:
                raise
            return Example(None, None, (str(error),))
        return Example(images.eval_view(image, *self._view), label)


# --- in memory ------------------------------------------------------------------------------------


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


def load_all(
    source: Source, size: tuple[int, int], skip_broken: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Decodes a whole source to uint8 [n, h, w, c] of one size, and labels [n] or [n, classes].

    With skip_broken, broken images are left out and named in the log.

    Raises:
        ValueError: it would take over half of the machine's memory.
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
    load = _EvalExamples(source, size, "resmall", 1.0, skip_broken)

    def load_into(i: int) -> tuple:
        example = load(i)
        if example.image is not None:
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
