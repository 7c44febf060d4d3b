"""What another input size costs in accuracy: resampled and tiled weights next to the alternatives.

    python -m benchmarks.input_size --source folder:PATH --workdir runs/input_size

PATH holds CIFAR-10 as images. A small Mixer is trained on them at 24x24 pixels and then given other
sizes: as it is, and after fine-tuning for 60 steps, in the mean over two seeds. Whatever is done
sees the same pixels, those of the image at the new size. Takes about 45 minutes on two cores; what
is finished is not done again. benchmarks/input_size_report.py makes tables and pictures of it.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from configs import cifar10
from mlp_mixer.cli.main import guard
from mlp_mixer.data import images, sources
from mlp_mixer.evaluation.classification import Classification
from mlp_mixer.models import mixer
from mlp_mixer.models.init import init
from mlp_mixer.runs.folder import WEIGHTS_FILE
from mlp_mixer.runtime.mesh import make_mesh
from mlp_mixer.training import loop
from mlp_mixer.weights import resample
from mlp_mixer.weights.load import load
from mlp_mixer.weights.resize import resize_module
from mlp_mixer.weights.save import save

TRAINED = (24, 24)
SIZES = ((16, 16), (32, 32), (48, 48), (24, 32))
# (image size, patch size): other patches on the same image, and both larger on the same grid.
PATCHES = ((24, 2), (24, 3), (24, 6), (12, 2), (18, 3), (36, 6), (48, 8))
SEEDS = (0, 1)
FINE_TUNING = dict(steps=60, batch_size=128, lr=0.001)
METHODS = ("resize the image", "tile", "resample", "random token mixing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", required=True, help="folder:PATH, with train/ and test/")
    parser.add_argument("--workdir", type=Path, required=True)
    sys.exit(guard(measure, parser.parse_args()))


def measure(args: argparse.Namespace) -> None:
    """Trains, and measures what has not been measured yet."""
    base = args.workdir / "base"
    if not (base / WEIGHTS_FILE).exists():
        loop.train(_config(args.source), base)
    measured = Measurements(args.workdir / "results.json")

    tasks = [
        (size, method)
        for size in SIZES
        for method in METHODS
        if method != "tile" or not (size[0] % TRAINED[0] or size[1] % TRAINED[1])
    ]
    for seed in SEEDS:
        for size, method in tasks:
            folder = args.workdir / f"{size[0]}x{size[1]}-{method.replace(' ', '-')}-{seed}"
            config = _fine_tuning(args, size, method, seed, folder)
            if seed == SEEDS[0]:
                measured.once(f"before/{size}/{method}", lambda c=config: _before(c))
            measured.once(
                f"after/{size}/{method}/{seed}",
                lambda c=config, f=folder: loop.train(c, f)["test/accuracy"],
            )

    for name, way in WAYS.items():
        for size in SIZES:
            measured.once(
                f"way/{name}/{size}",
                lambda size=size, way=way: _accuracy(args.source, *_resampled(base, size, way)),
            )
    for image_size, patch_size in PATCHES:
        measured.once(
            f"patch/{image_size}/{patch_size}",
            lambda i=image_size, p=patch_size: _accuracy(args.source, *load(base, None, i, p)),
        )


class Measurements:
    """Results by name, kept in a file so that a second run goes on where the first one stopped."""

    def __init__(self, path: Path):
        self._path = path
        self.values: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def once(self, name: str, measure: Callable[[], Any]) -> None:
        """Measures what has not been measured yet."""
        if name not in self.values:
            self.values[name] = measure()
            self._path.write_text(json.dumps(self.values, indent=1))
            print(name, self.values[name], flush=True)


# --- training and evaluation ----------------------------------------------------------------------


def _config(source: str):
    config = cifar10.get_config()
    config.data.source = source
    config.image_size = TRAINED
    config.augment.pad_crop = 3
    config.total_epochs = 6.0
    config.eval_every_epochs = config.checkpoint_every_epochs = 2.0
    return config


def _fine_tuning(args, size, method: str, seed: int, folder: Path):
    """The config that takes the trained model to `size`."""
    base, steps = args.workdir / "base", FINE_TUNING["steps"]
    config = _config(args.source)
    config.seed = seed
    # As many images as the fine-tuning sees.
    config.data.train_split = f"train[:{steps * FINE_TUNING['batch_size']}]"
    config.init_head = "keep"
    config.init_from = str(base)
    config.init_image_size = TRAINED
    config.image_size = size
    if method == "resize the image":
        config.image_size = TRAINED
        config.data.source = _through(args, size)
    elif method == "random token mixing":
        config.init_image_size = size
        config.init_from = str(_with_random_token_mixing(base, size, seed, folder))
    else:
        config.init_resize = method
    config.total_epochs, config.total_steps = 0.0, steps
    config.warmup_epochs, config.warmup_steps = 0.0, steps // 10
    for duration in ("eval_every", "checkpoint_every"):
        config[f"{duration}_epochs"], config[f"{duration}_steps"] = 0.0, steps
    config.lr, config.batch_size = FINE_TUNING["lr"], FINE_TUNING["batch_size"]
    return config


def _before(config) -> float:
    resize = config.get("init_resize", "auto")
    return _accuracy(
        config.data.source, *load(config.init_from, None, tuple(config.image_size), resize=resize)
    )


def _accuracy(source: str, module: mixer.MlpMixer, params: Any) -> float:
    test = sources.open_source(source, "test")
    evaluation = Classification(module, test, make_mesh(), batch_size=500)
    return evaluation.run(params)["accuracy"]


def _through(args, size: tuple[int, int]) -> str:
    """The images as they look at `size`, resized back to the size that was trained at."""
    folder = args.workdir / f"through-{size[0]}x{size[1]}"
    if not folder.exists():
        partial = folder.with_suffix(".partial")
        for split in ("train", "test"):
            source = sources.open_source(args.source, split)
            for class_name in source.class_names:
                (partial / split / class_name).mkdir(parents=True, exist_ok=True)
            for i in range(len(source)):
                image, label = source[i]
                image = images.resize(images.eval_view(image, size), TRAINED)
                path = partial / split / source.class_names[label] / f"{i:06}.png"
                cv2.imwrite(str(path), image[..., ::-1])
        partial.rename(folder)
    return f"folder:{folder}"


def _with_random_token_mixing(base: Path, size, seed: int, name: Path) -> Path:
    """All weights of the trained model but those that depend on the input size."""
    module, params = load(base, None, size, resize="resample")
    fresh = init(module, seed)
    for i in range(module.num_blocks):
        block = f"MixerBlock_{i}"
        params[block] = params[block] | {"token_mixing": fresh[block]["token_mixing"]}
    path = name.with_suffix(".npz")
    save(path, module, params)
    return path


# --- other ways to resample -----------------------------------------------------------------------
# Each gives the matrices [S', S] that Dense_0's inputs and Dense_1's outputs are multiplied with.


def _resampled(base: Path, size, way: Callable) -> tuple[mixer.MlpMixer, dict[str, Any]]:
    """The trained model at another size."""
    module, params = load(base)
    resized = resize_module(module, size, resize="resample")
    inputs, outputs = way(module.grid, resized.grid)
    for i in range(module.num_blocks):
        d0, d1 = (params[f"MixerBlock_{i}"]["token_mixing"][f"Dense_{j}"] for j in (0, 1))
        d0["kernel"] = (inputs @ d0["kernel"]).astype(np.float32)
        d1["kernel"] = (d1["kernel"] @ outputs.T).astype(np.float32)
        d1["bias"] = (outputs @ d1["bias"]).astype(np.float32)
    return resized, params


def _matrix(line: Callable, old, new) -> np.ndarray:
    return np.kron(line(old[0], new[0]), line(old[1], new[1]))


def _cubic(old, new):
    matrix = _matrix(resample.cubic, old, new)
    return matrix * math.prod(old) / math.prod(new), matrix


def _linear(old, new):
    matrix = _matrix(resample.linear, old, new)
    return matrix * math.prod(old) / math.prod(new), matrix


def _there_and_back(old, new):
    """The old MLP between two cubic resizings of the field; exact for constant fields."""
    return _matrix(resample.cubic, new, old).T, _matrix(resample.cubic, old, new)


def _pseudo_inverse(old, new):
    """FlexiViT's rule, carried over: the same response to every linearly interpolated field."""
    matrix = _matrix(resample.linear, old, new)
    return np.linalg.pinv(matrix).T, matrix


def _not_scaled(old, new):
    """The filters interpolated as pictures are, though there are more or fewer tokens to sum."""
    matrix = _matrix(resample.cubic, old, new)
    return matrix, matrix


WAYS = {
    "cubic (chosen)": _cubic,
    "linear": _linear,
    "cubic, there and back": _there_and_back,
    "pseudo-inverse": _pseudo_inverse,
    "cubic, not scaled": _not_scaled,
}


if __name__ == "__main__":
    main()
