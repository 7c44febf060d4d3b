"""Reads single examples of a source, coping with flaky storage and broken images."""

import errno
import logging
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from mlp_mixer.data.images import BrokenImage, eval_view
from mlp_mixer.data.sources import Source

log = logging.getLogger(__name__)

RETRY_WAITS = (1, 2, 4, 8, 16)  # seconds before each further attempt to read an example
MOST_BROKEN = 100  # consecutive broken images after which a data set is given up


class Example(NamedTuple):
    """An example that was read.

    Attributes:
        image: uint8 [h, w, c].
        label: int, or multi-hot uint8 [num_classes] where an image may have several.
        broken: a message for each broken image that was skipped before it.
    """

    image: np.ndarray
    label: int | np.ndarray
    broken: tuple[str, ...] = ()


class Broken(NamedTuple):
    """The message of a broken example that no other example replaces."""

    broken: tuple[str]


def read(source: Source, index: int) -> tuple[np.ndarray, int | np.ndarray]:
    """Reads `source[index]`, retrying for half a minute if storage fails.

    Returns:
        The image, uint8 [h, w, c], and its label.

    Raises:
        OSError: the example cannot be read; names the file.
        BrokenImage: the example was read, but cannot be decoded.
    """
    for tries, wait in enumerate((*RETRY_WAITS, None), 1):
        try:
            return source[index]
        except (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError):
            raise  # retrying does not help
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
                raise  # nor here; these have no exception classes of their own
            where = error.filename or f"{source.name}, example {index}"
            if wait is None:
                raise OSError(f"{where} could not be read in {tries} tries: {error}") from error
            log.warning("reading %s failed (%s); trying again in %g s", where, error, wait)
            time.sleep(wait)
    raise AssertionError("unreachable")


def read_good(source: Source, indices: Iterable[int], skip_broken: bool) -> Example:
    """Reads the first example; with skip_broken, the first of `indices` that is not broken.

    Raises:
        BrokenImage: the first is broken or, with skip_broken, the first MOST_BROKEN all are.
    """
    broken: list[str] = []
    for index in indices:
        try:
            return Example(*read(source, index), tuple(broken))
        except BrokenImage as error:
            if not skip_broken:
                raise
            broken.append(str(error))
            if len(broken) == MOST_BROKEN:
                break
    raise BrokenImage(f"{source.name}: {len(broken)} broken images in a row; {broken[-1]}")


def read_view(
    source: Source,
    index: int,
    size: tuple[int, int],
    crop: str = "resmall",
    fraction: float = 1.0,
    skip_broken: bool = False,
) -> Example | Broken:
    """Reads the evaluation view of an example; see `images.eval_view`.

    With skip_broken, returns Broken for a broken example instead of raising.

    Raises:
        BrokenImage: the example is broken.
        OSError: the example cannot be read.
    """
    try:
        image, label = read(source, index)
    except BrokenImage as error:
        if not skip_broken:
            raise
        return Broken((str(error),))
    return Example(eval_view(image, size, crop, fraction), label)


class BrokenLog:
    """Counts broken images, and logs each the first time."""

    def __init__(self):
        self._seen: set[str] = set()

    def add(self, messages: Iterable[str]) -> None:
        for message in messages:
            if message not in self._seen:
                self._seen.add(message)
                log.warning("skipped %d broken images so far: %s", len(self._seen), message)


def stack_labels(labels: Sequence[int | np.ndarray]) -> np.ndarray:
    """Stacks labels: integers to int32 [n]; multi-hot ones keep their dtype, [n, num_classes]."""
    array = np.asarray(labels)
    return array.astype(np.int32) if array.ndim == 1 else array
