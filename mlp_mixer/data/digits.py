"""The handwritten digits that come with scikit-learn: a data set that needs no download."""

import functools
from importlib.metadata import distribution

import numpy as np

from mlp_mixer.data.fingerprint import fingerprint

TASKS = {  # classes of each task
    "digit": tuple("0123456789"),
    "place": tuple(f"{digit} {half}" for half in ("left", "right") for digit in range(10)),
}


class DigitsSource:
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, 1,437 to train and 360 to test.

    Pixel values 0 to 16 are scaled to 0 to 255. The tasks are

    digit: which digit is it?
    place: the digit is in one corner of a black 16 x 16 image: which digit, and in which half?
    """

    def __init__(self, task: str, split: str, channels: int = 1):
        if task not in TASKS:
            raise ValueError(f"unknown digits task {task!r}; use one of {', '.join(TASKS)}")
        self.name = "digits" if task == "digit" else f"digits:{task}"
        self.class_names = TASKS[task]
        table = _read_digits()
        pixels = np.round(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
        labels = table[:, -1].astype(np.int32)
        # RandomState never changes between NumPy versions, so the split is fixed.
        random = np.random.RandomState(0)
        order = random.permutation(len(labels))
        parts = {"train": order[:1437], "test": order[1437:]}
        if split not in parts:
            raise ValueError(f"{self.name} has the splits train and test, not {split!r}")
        if task == "place":
            bottom, right = random.randint(2, size=(2, len(labels)))
            pixels, labels = _in_corners(pixels, bottom, right), labels + 10 * right
        self._images = np.repeat(pixels[parts[split], ..., None], channels, axis=-1)
        self._labels = labels[parts[split]].astype(np.int32)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self._images[index], int(self._labels[index])

    def labels(self) -> np.ndarray:
        return self._labels

    def digest(self) -> str:
        return fingerprint(self.class_names, self._labels)


def _in_corners(small: np.ndarray, bottom: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Puts images [n, h, w] into corners, given as 0/1 arrays [n], of black ones [n, 2h, 2w]."""
    n, h, w = small.shape
    large = np.zeros((n, 2, h, 2, w), small.dtype)
    large[np.arange(n), bottom, :, right] = small
    return large.reshape(n, 2 * h, 2 * w)


@functools.cache
def _read_digits() -> np.ndarray:
    """Reads scikit-learn's file: an image in each row, pixel after pixel, and its label.

    load_digits() returns the same, but importing scikit-learn takes a second and more, a quarter
    of what it takes until a small run makes its first step.
    """
    file = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    return np.loadtxt(str(file), delimiter=",")
