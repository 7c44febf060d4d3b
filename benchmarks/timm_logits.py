"""Logits of this model beside timm's on the same weights, for both kinds of GELU.

    python benchmarks/timm_logits.py [mixer_s32_224 mixer_b16_224 ...]

Needs torch (any CPU build), timm and safetensors. The weights are random: timm's initial ones with
biases and a head that are not zero, written by safetensors' own code and read by `mlp_mixer.load`.
"""

import functools
import importlib.util
import sys
import tempfile
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import mlp_mixer
from mlp_mixer.weights import convert

TOLERANCE = 1e-4
ACTIVATIONS = {
    "exact": torch.nn.GELU,  # timm's default
    "tanh": functools.partial(torch.nn.GELU, approximate="tanh"),
}


def main(names: list[str]) -> None:
    print("| model | GELU | largest logit | largest difference | to the other GELU | round trip |")
    print("|---|---|---|---|---|---|")
    for name in names:
        for gelu, act_layer in ACTIVATIONS.items():
            model = random_model(name, act_layer=act_layer)
            with tempfile.TemporaryDirectory() as folder:
                theirs, same, other = compare(model, Path(folder), gelu)
                exact = round_trip(Path(folder))
            largest, difference = np.abs(theirs).max(), np.abs(theirs - same).max()
            distance = np.abs(theirs - other).max()
            print(
                f"| {name} | {gelu} | {largest:.2f} | {difference:.1e} | {distance:.1e} | {exact} |"
            )
            if difference > TOLERANCE:
                sys.exit(f"{name}: logits differ by more than {TOLERANCE}")


@functools.cache
def import_timm():
    """timm, also where torchvision is missing or of another build than torch.

    It imports names from it that no Mixer uses.
    """
    if "torchvision" not in sys.modules and importlib.util.find_spec("torchvision") is None:
        for name in ("", ".datasets", ".ops", ".ops.misc", ".transforms", ".transforms.functional"):
            sys.modules[f"torchvision{name}"] = mock.MagicMock(__spec__=None)
    # CPU builds of torch lack these operators, which torchvision of another build looks for.
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", "(Tensor a, Tensor b, float c) -> Tensor")
    import timm

    return timm


def random_model(name: str, **fields) -> torch.nn.Module:
    """A timm model with no parameter at zero."""
    torch.manual_seed(0)
    model = import_timm().create_model(name, pretrained=False, **fields).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def compare(model: torch.nn.Module, folder: Path, gelu: str) -> tuple[np.ndarray, ...]:
    """Logits for two random images: timm's, ours with the same GELU, ours with the other."""
    save_file(model.state_dict(), folder / "model.safetensors")
    # The file does not say which GELU it is for: for timm's layout "exact" is the default.
    module, params = mlp_mixer.load(
        folder / "model.safetensors", gelu=None if gelu == "exact" else gelu
    )
    images = np.random.default_rng(0).uniform(-1, 1, (2, *module.image_size, 3)).astype(np.float32)
    with torch.no_grad():
        theirs = model(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()
    other = module.clone(gelu="tanh" if gelu == "exact" else "exact")
    with jax.default_matmul_precision("highest"):
        return theirs, *(np.asarray(m.apply({"params": params}, images)) for m in (module, other))


def round_trip(folder: Path) -> str:
    """Whether timm -> .npz -> timm gives every bit back."""
    first, middle, last = (folder / n for n in ("model.safetensors", "a.npz", "b.safetensors"))
    convert.convert(first, middle)
    convert.convert(middle, last, layout="timm")
    before, after = (dict(read_arrays(path)) for path in (first, last))
    same = before.keys() == after.keys() and all(
        np.array_equal(before[name].view(np.uint32), after[name].view(np.uint32)) for name in before
    )
    return "bit-equal" if same else "DIFFERS"


def read_arrays(path: Path):
    """The file's arrays, by the reader of the safetensors package."""
    with safe_open(path, framework="numpy") as file:
        for name in file.keys():  # noqa: SIM118 - this is no dict
            yield name, file.get_tensor(name)


if __name__ == "__main__":
    main(sys.argv[1:] or ["mixer_s32_224", "mixer_b16_224"])
