"""Writes tests/golden/augmentations.npz: AutoAugment by torchvision, RandAugment by timm.

    python benchmarks/augmentation_golden.py tests/golden/augmentations.npz

Needs torch (any CPU build), torchvision, timm and Pillow, and nothing of mlp_mixer. The file has an
image, and for each operation, strength and sign what they make of it, under names such as
torchvision/Rotate/6/-1 and timm/Rotate/9.0/-1/bilinear; also torchvision's policy for CIFAR-10.
"""

import itertools
import json
import sys
from unittest import mock

import numpy as np
import torch
from PIL import Image

# torchvision's binary part fits one build of torch only, and is not needed here.
_library = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _library.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from timm.data import auto_augment as timm  # noqa: E402
from torchvision.transforms import InterpolationMode, autoaugment  # noqa: E402

STRENGTHS, MAGNITUDES = (0, 3, 6, 9), (0.0, 4.2, 9.0, 9.9)
RESAMPLINGS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def make_image() -> Image.Image:
    """An image of 12 rows and 15 columns, smooth with some noise, in three colours."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:12, :15]
    planes = [80 + 60 * np.sin(x / 3 + k) + 50 * np.cos(y / (2 + k)) for k in range(3)]
    noisy = np.stack(planes, -1) + rng.normal(0, 8, (12, 15, 3))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def by_torchvision(image: Image.Image) -> dict[str, np.ndarray]:
    policy = autoaugment.AutoAugment(autoaugment.AutoAugmentPolicy.CIFAR10)
    space = policy._augmentation_space(10, (image.height, image.width))
    made = {}
    for (name, (magnitudes, signed)), strength in itertools.product(space.items(), STRENGTHS):
        for sign in (1, -1) if signed else (1,):
            value = sign * float(magnitudes[strength] if magnitudes.ndim else magnitudes)
            changed = autoaugment._apply_op(image, name, value, InterpolationMode.NEAREST, None)
            made[f"torchvision/{name}/{strength}/{sign}"] = np.asarray(changed)
    made["policy"] = np.array(json.dumps(policy.policies))
    return made


def by_timm(image: Image.Image) -> dict[str, np.ndarray]:
    made = {}
    names = timm._RAND_INCREASING_TRANSFORMS
    for name, magnitude, sign in itertools.product(names, MAGNITUDES, (1, -1)):
        for resampling, resample in RESAMPLINGS.items():
            with mock.patch.object(timm, "_randomly_negate", lambda v, sign=sign: sign * v):
                hparams = {"interpolation": resample, "img_mean": (128,) * 3}
                op = timm.AugmentOp(name, prob=1.0, magnitude=magnitude, hparams=hparams)
                changed = np.asarray(op(image))
            short = name.replace("Increasing", "").replace("Rel", "")
            key = f"timm/{short}/{magnitude}/{sign}/{resampling}"
            if not np.array_equal(changed, np.asarray(image)):
                made[key] = changed
    return made


def main(path: str) -> None:
    image = make_image()
    np.savez_compressed(path, image=np.asarray(image), **by_torchvision(image), **by_timm(image))


if __name__ == "__main__":
    main(*sys.argv[1:])
