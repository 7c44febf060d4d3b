"""JPEG photographs for the benchmarks of the input pipeline: given ones, or made up."""

import itertools
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mlp_mixer.data import images


@dataclass
class Photographs:
    """A source of JPEG files that are in memory, and made-up labels."""

    files: list[bytes]
    name: str = "photographs"
    class_names: tuple[str, ...] = ("a", "b")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return images.decode(self.files[index], 3, f"photograph {index}"), index % 2

    def labels(self) -> np.ndarray:
        return np.arange(len(self), dtype=np.int32) % 2


def read(path: str | None, count: int) -> list[bytes]:
    """The contents of `count` JPEG files of a folder or .tar, repeated where there are fewer.

    Without a path they are made up: noise of all frequencies, like photographs, of many sizes.
    """
    found = list(itertools.islice(_files(Path(path)) if path else _made_up(), count))
    if not found:
        raise ValueError(f"{path} holds no .jpg or .jpeg files")
    return list(itertools.islice(itertools.cycle(found), count))


def _files(path: Path) -> Iterator[bytes]:
    suffixes = (".jpg", ".jpeg")
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix.lower() in suffixes:
                yield file.read_bytes()
        return
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and member.name.lower().endswith(suffixes):
                yield archive.extractfile(member).read()


def _made_up() -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    while True:
        h, w = (int(side) for side in rng.integers(200, 600, 2))
        picture = np.zeros((h, w, 3), np.float32)
        for octave in range(1, 9):
            noise = rng.normal(0, 128 / octave, (2**octave, 2**octave, 3)).astype(np.float32)
            picture += cv2.resize(noise, (w, h), interpolation=cv2.INTER_CUBIC)
        picture = np.clip(picture + 128, 0, 255).astype(np.uint8)
        yield cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
