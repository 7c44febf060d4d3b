"""Makes batches from a source: `train_batches` without end, `eval_batches` once through it.

A batch is a dict of NumPy arrays: `image` uint8 [n, h, w, c], `label` int32 [n] (or multi-hot uint8
[n, num_classes], depending on the source), and in evaluation `mask` float32 [n], which is 0 for
rows that only pad the last batch, and for broken images.

Training batch k is a pure function of (seed, k), for any number of processes, workers or threads:
to resume at step k, only k is needed. Process p of P gets rows p * n/P to (p + 1) * n/P of each
batch.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import grain
import numpy as np

from mlp_mixer.data import examples, images
from mlp_mixer.data.augment import Augment
from mlp_mixer.data.examples import Example
from mlp_mixer.data.in_memory import train_batches as in_memory_batches
from mlp_mixer.data.sources import Source
from mlp_mixer.data.workers import Batch, Load, fill_batches


class Reading(NamedTuple):
    """How examples are read. Batches do not depend on it, except for `skip_broken`.

    Attributes:
        process: (index, count) of this process among all.
        workers: number of processes that load and augment; with 0, threads of this process do,
            which is as fast on a handful of CPUs.
        threads: number of threads if there are no workers; one per CPU by default.
        skip_broken: whether to log broken images instead of raising. In training the next example
            takes the place of a broken one, in evaluation its mask is 0.
    """

    process: tuple[int, int] = (0, 1)
    workers: int = 0
    threads: int | None = None
    skip_broken: bool = False


def train_batches(
    source: Source,
    augment: Augment,
    *,
    batch_size: int,
    seed: int,
    start: int = 0,
    in_memory: bool = False,
    reading: Reading = Reading(),  # noqa: B008 - immutable
) -> Iterator[Batch]:
    """Yields this process's rows of the training batches start, start + 1, ...

    Args:
        source: the examples; each epoch goes through them in a new order.
        augment: augmentation, which makes images of a fixed size.
        batch_size: examples in a global batch, over all processes.
        seed: seeds the order of examples and the augmentation.
        start: number of the first batch.
        in_memory: whether to decode the whole source once; see `data.in_memory`.
        reading: see `Reading`.

    Raises:
        ValueError: the arguments do not fit each other or the data.
        images.BrokenImage: an image is broken.
        OSError: an image cannot be read, or a worker process died.
    """
    share, rows = _share(batch_size, reading.process)
    if in_memory:
        if reading.workers:
            raise ValueError(
                f"data.in_memory=True works in threads; set data.workers to 0, not "
                f"{reading.workers}"
            )
        return in_memory_batches(
            source, augment, batch_size=batch_size, rows=rows, seed=seed, start=start,
            threads=reading.threads, skip_broken=reading.skip_broken,
        )  # fmt: skip
    load = _TrainExamples(source, augment, seed, reading.skip_broken)
    firsts = itertools.count(start * batch_size + rows.start, batch_size)
    positions = (range(first, first + share) for first in firsts)
    batches = _fill(source, load, positions, share, augment.size, reading)
    # Training batches are always full, so they need no mask.
    return ({"image": batch["image"], "label": batch["label"]} for batch in batches)


def eval_batches(
    source: Source,
    size: tuple[int, int],
    *,
    batch_size: int,
    crop: str = "resmall",
    crop_fraction: float = 1.0,
    reading: Reading = Reading(),  # noqa: B008 - immutable
) -> Iterator[Batch]:
    """Yields this process's rows of batches that contain every example exactly once, in order.

    All batches have the same shape: the last one is padded with zeros, as `mask` tells. See
    `images.eval_view` for crop and crop_fraction, `train_batches` for the rest.
    """
    images.check_crop(crop, crop_fraction)
    share, rows = _share(batch_size, reading.process)
    count = len(source)
    firsts = range(rows.start, count + rows.start, batch_size)
    positions = (range(min(first, count), min(first + share, count)) for first in firsts)
    load = functools.partial(
        examples.read_view, source, size=size, crop=crop, fraction=crop_fraction,
        skip_broken=reading.skip_broken,
    )  # fmt: skip
    return _fill(source, load, positions, share, size, reading)


def _share(batch_size: int, process: tuple[int, int]) -> tuple[int, slice]:
    """Returns how many rows of a global batch a process has, and which."""
    index, count = process
    if batch_size < 1 or batch_size % count:
        raise ValueError(
            f"batch_size={batch_size} is not a positive multiple of the {count} processes"
        )
    share = batch_size // count
    return share, slice(index * share, (index + 1) * share)


def _fill(
    source: Source,
    load: Load,
    positions: Iterable[range],
    rows: int,
    size: tuple[int, int],
    reading: Reading,
) -> Iterator[Batch]:
    first = examples.read_good(source, range(len(source)), reading.skip_broken)
    like = Example(np.empty((*size, first.image.shape[-1]), np.uint8), first.label)
    yield from fill_batches(
        load, positions, rows, like, workers=reading.workers, threads=reading.threads
    )


class _TrainExamples:
    """Loads and augments the example at a position, counted from the start of training."""

    def __init__(self, source: Source, augment: Augment, seed: int, skip_broken: bool):
        self._source, self._augment, self._seed = source, augment, seed
        self._skip_broken = skip_broken

    def __reduce__(self):  # each worker process makes grain's data set anew
        return type(self), (self._source, self._augment, self._seed, self._skip_broken)

    @functools.cached_property
    def _examples(self) -> grain.MapDataset:
        order = grain.MapDataset.range(len(self._source)).seed(self._seed).shuffle().repeat()
        return order.random_map(self._load)

    def _load(self, index: int, rng: np.random.Generator) -> Example:
        # The same example replaces a broken one in every process, run and epoch.
        indices = (i % len(self._source) for i in itertools.count(int(index)))
        example = examples.read_good(self._source, indices, self._skip_broken)
        return example._replace(image=self._augment.one(example.image, rng))

    def __call__(self, position: int) -> Example:
        return self._examples[position]
