"""Makes corrupted copies of a data set's images, such as CIFAR-10-C, with ImageNet-C's corruptions.

    pip install --no-deps imagecorruptions-imaug && pip install scikit-image numba
    python -m benchmarks.corrupt_images --source=folder:cifar10 --out=cifar10_c
    mlp-mixer evaluate --suite=robustness --checkpoint=runs/cifar10 --sets C=folder:cifar10_c

It writes OUT/CORRUPTION/SEVERITY/CLASS/NUMBER.png and OUT/classes.txt. Images that are there
already are kept, so a killed command continues. Each image has random numbers of its own, the same
ones each time.

The corruptions are those of imagecorruptions-imaug (1.1.5), the maintained fork of the package
imagecorruptions. Without --no-deps pip would also install opencv-python, which overwrites the files
of opencv-python-headless. The strengths are ImageNet-C's. The published CIFAR-10-C has milder ones,
made for 32 x 32 pixels, so accuracies on these images are lower and cannot be compared with
published ones: for those use tfds:cifar10_corrupted.
"""

import argparse
import io
import os
import zlib
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from mlp_mixer.data.corruptions import COUNTED, EXTRA, SEVERITIES
from mlp_mixer.data.sources import Source, open_source, spread

SEEDED = (
    "impulse_noise",
    "glass_blur",
)  # draw from generators of their own, not NumPy's global one
AT_ONCE = 1000  # images that a process makes before it tells


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", required=True, help="a data source, such as folder:cifar10")
    parser.add_argument("--split", default="test")
    parser.add_argument("--out", required=True, type=Path, help="folder to write to")
    parser.add_argument("--corruptions", nargs="+", choices=COUNTED + EXTRA, default=COUNTED)
    parser.add_argument("--severities", nargs="+", type=int, choices=SEVERITIES, default=SEVERITIES)
    parser.add_argument("--examples", type=int, help="images, evenly spread; default: all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    args = parser.parse_args()
    source = open_source(args.source, args.split)
    source = spread(source, args.examples or len(source))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "classes.txt").write_text("".join(f"{name}\n" for name in source.class_names))
    todo = [
        (corruption, severity, range(first, min(first + AT_ONCE, len(source))))
        for corruption in args.corruptions
        for severity in args.severities
        for first in range(0, len(source), AT_ONCE)
    ]
    with ProcessPoolExecutor(args.jobs) as pool:
        made = pool.map(partial(make, source, args.out), *zip(*todo, strict=True))
        list(tqdm(made, total=len(todo)))  # raises what a process raised


def make(source: Source, out: Path, corruption: str, severity: int, indices: range) -> None:
    """Writes some of the images of one corruption and severity."""
    for index in indices:
        folder = out / corruption / str(severity) / source.class_names[source.labels()[index]]
        path = folder / f"{index:06}.png"
        if path.exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        file = io.BytesIO()
        Image.fromarray(corrupt(source[index][0], corruption, severity, index)).save(file, "PNG")
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_bytes(file.getvalue())
        unfinished.rename(path)


def corrupt(image: np.ndarray, corruption: str, severity: int, index: int) -> np.ndarray:
    """Returns a corrupted image, uint8 [h, w, 3], the same for the same arguments."""
    import imagecorruptions

    seed = zlib.crc32(f"{corruption} {severity} {index}".encode())
    np.random.seed(seed)
    own = {"seed": seed} if corruption in SEEDED else {}
    return imagecorruptions.corrupt(image, severity, corruption, **own)


if __name__ == "__main__":
    main()
