"""Decoding, resizing and the evaluation views against TensorFlow's, in grey levels.

    python -m benchmarks.resize [--images FOLDER_OR_TAR] [--count 200]

Needs tensorflow-cpu. Without --images it takes smooth random pictures of many sizes. The evaluation
views are those of the reference (big_vision): resize_small(256) by area or resize(256), bilinear,
cast to uint8, and the central 224 x 224. Differences are over all pixels of all images.
"""

import argparse
import os
import sys

import numpy as np

from benchmarks import photographs
from mlp_mixer.cli import output
from mlp_mixer.cli.main import guard
from mlp_mixer.data import images

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def tf_resize(image, size, method):
    import tensorflow as tf

    resized = tf.image.resize(image, size, method=method, antialias=False)
    return tf.cast(tf.clip_by_value(resized, 0, 255), tf.uint8).numpy()


def tf_view(image, crop):
    """The reference's evaluation view, written down independently of ours."""
    h, w = image.shape[:2]
    if crop == "resmall":
        factor = np.float32(256) / np.float32(min(h, w))
        size = [int(np.round(np.float32(side) * factor)) for side in (h, w)]
        image = tf_resize(image, size, "area")
    else:
        image = tf_resize(image, (256, 256), "bilinear")
    top, left = (image.shape[0] - 224) // 2, (image.shape[1] - 224) // 2
    return image[top : top + 224, left : left + 224]


def measure(args: argparse.Namespace) -> None:
    import tensorflow as tf

    differences: dict[str, list] = {}

    def compare(name: str, ours: np.ndarray, theirs: np.ndarray) -> None:
        if ours.shape != theirs.shape:
            raise ValueError(f"{name}: {ours.shape} against TensorFlow's {theirs.shape}")
        difference = np.abs(ours.astype(int) - theirs)
        differences.setdefault(name, []).append(
            (difference.max(), difference.mean(), (ours.astype(int) - theirs).mean())
        )

    rng = np.random.default_rng(0)
    for data in photographs.read(args.images, args.count):
        image = images.decode(data)
        exact = tf.io.decode_jpeg(data, 3, dct_method="INTEGER_ACCURATE").numpy()
        compare("decode, TF INTEGER_ACCURATE", image, exact)
        compare("decode, TF default", image, tf.io.decode_jpeg(data, 3).numpy())
        h, w = image.shape[:2]
        smaller = (int(rng.integers(h // 4, h)), int(rng.integers(w // 4, w)))
        larger = (int(rng.integers(h, 2 * h)), int(rng.integers(w, 2 * w)))
        for method in images.RESIZE_METHODS:
            for name, size in (("smaller", smaller), ("larger", larger)):
                ours = images.resize(image, size, method)
                compare(f"resize {method}, {name}", ours, tf_resize(image, size, method))
        kind = "" if min(h, w) >= 256 else ", of images under 256 pixels"
        for crop in images.CROPS:
            ours = images.eval_view(image, (224, 224), crop, 0.875)
            compare(f"view {crop}{kind}", ours, tf_view(image, crop))
            default = tf.io.decode_jpeg(data, 3).numpy()
            compare(f"view {crop}{kind}, TF's default decoder", ours, tf_view(default, crop))

    rows = [("what", "images", "largest", "mean", "mean of ours - TF's")]
    for name, found in differences.items():
        largest, mean, signed = np.asarray(found).T
        rows.append(
            (name, f"{len(found)}", f"{largest.max():.0f}", f"{mean.mean():.3f}",
             f"{signed.mean():+.3f}")
        )  # fmt: skip
    print(output.table(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", help="a folder or .tar of JPEG photographs")
    parser.add_argument("--count", type=int, default=200)
    sys.exit(guard(measure, parser.parse_args()))


if __name__ == "__main__":
    main()
