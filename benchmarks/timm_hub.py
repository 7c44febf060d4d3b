"""What `mlp_mixer.push` writes, read by timm: logits beside ours, from a folder and from a hub.

    python benchmarks/timm_hub.py

Needs torch (any CPU build) and timm 1.0.31 or newer, and takes a minute. The weights are random,
and the hub is the tests' stand-in on this machine, which timm reads as hf-hub:USER/NAME.
"""

import functools
import json
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
import torch
from flax import traverse_util

import mlp_mixer
from benchmarks.timm_logits import import_timm
from mlp_mixer.models.init import shapes
from mlp_mixer.models.mixer import MlpMixer
from tests import hub

TOLERANCE = 1e-5  # of logits of about 3


class Case(NamedTuple):
    """A model to push; `fields` are those of mlp_mixer.create."""

    what: str
    variant: str
    fields: dict
    crop: str = "resmall"


CASES = (
    Case("as released", "B/16", {}),
    Case("as trained in timm", "B/16", {"gelu": "exact"}),
    Case("37 classes, crop resize", "S/32", {"num_classes": 37}, "resize"),
    Case("without a head", "S/32", {"num_classes": 0}),
    Case("for 448x448, tiled", "S/16", {"image_size": 448, "tokens_mlp_dim": 1024}),
    Case("for 160x256", "B/32", {"image_size": (160, 256)}),
    Case("grey", "S/16", {"image_channels": 1}),
    Case("other widths", "S/16", {"tokens_mlp_dim": 171, "channels_mlp_dim": 1367}),
    Case("no architecture of timm", "S/8", {"num_classes": 10}),
    Case("no architecture of timm, small, exact", "S/8", {
        "num_classes": 10, "num_blocks": 2, "hidden_dim": 30, "tokens_mlp_dim": 10,
        "channels_mlp_dim": 70, "image_size": (32, 48), "gelu": "exact",
    }),
)  # fmt: skip


def main() -> None:
    print(f"timm {import_timm().__version__}, torch {torch.__version__}\n")
    print("| model | | read by | GELU | largest logit | largest difference |")
    print("|---|---|---|---|---|---|")
    with (
        hub.serving() as server,
        tempfile.TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        server.use(patch, Path(folder))
        patch.setenv("HF_TOKEN", "token")
        server.tokens["token"] = hub.User("alice")
        for i, case in enumerate(CASES):
            compare(case, Path(folder, str(i)), f"hf://alice/{i}")


def compare(case: Case, folder: Path, repository: str) -> None:
    """Prints a row for each way in which timm reads a model, and ends if logits differ."""
    module = mlp_mixer.create(case.variant, **case.fields)
    rng = np.random.default_rng(0)
    params = traverse_util.unflatten_dict(
        {name: value(rng, name, shape) for name, shape in shapes(module).items()}, sep="/"
    )
    names = [f"class {i}" for i in range(module.num_classes)] or None
    mlp_mixer.save(
        folder / "x.npz", module, params, class_names=names, crop=case.crop, crop_fraction=0.9
    )
    sizes = (2, *module.image_size, module.image_channels)
    images = rng.uniform(-1, 1, sizes).astype(np.float32)
    with jax.default_matmul_precision("highest"):
        ours = np.asarray(module.apply({"params": params}, images))
    mlp_mixer.push(folder / "x.npz", folder / "pushed")
    mlp_mixer.push(folder / "x.npz", repository)
    read_back, tree = mlp_mixer.load(repository)
    assert read_back == module
    assert all(map(np.array_equal, jax.tree.leaves(tree), jax.tree.leaves(params)))
    for how, model in readers(module, folder / "pushed", repository.removeprefix("hf://")):
        if hasattr(model, "pretrained_cfg"):
            check_preprocessing(model.pretrained_cfg, module, case)
        with torch.no_grad():
            theirs = model.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()
        difference = np.abs(theirs - ours).max()
        print(
            f"| {case.variant} | {case.what} | {how} | {module.gelu} | {np.abs(ours).max():.2f} "
            f"| {difference:.1e} |",
            flush=True,
        )
        if difference > TOLERANCE:
            sys.exit(f"{case.what}: logits differ by more than {TOLERANCE}")


def value(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The array of a parameter, of a size at which logits are of about 1."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    if name.endswith("kernel"):
        return noise / np.sqrt(np.float32(np.prod(shape[:-1])))
    return 0.1 * noise + np.float32(name.endswith("scale"))


def readers(module: MlpMixer, folder: Path, name: str):
    """How timm reads what was pushed, and the model that it gets."""
    timm, act_layer = import_timm(), torch.nn.GELU
    if module.gelu == "tanh":
        act_layer = functools.partial(torch.nn.GELU, approximate="tanh")
    config = json.loads((folder / "config.json").read_text())
    if config["architecture"].startswith("mixer_"):
        for how, address in (("local-dir:", folder), ("hf-hub:", name)):
            yield how, timm.create_model(f"{how}{address}", pretrained=True, act_layer=act_layer)
        return
    try:
        timm.create_model(f"local-dir:{folder}", pretrained=True)
        sys.exit("timm has this architecture by now")
    except RuntimeError as error:
        assert "Unknown model" in str(error)
    from safetensors.torch import load_file

    model = timm.models.MlpMixer(
        num_classes=config["num_classes"], act_layer=act_layer, **config["model_args"]
    )
    model.load_state_dict(load_file(folder / "model.safetensors"))
    yield "MlpMixer", model


def check_preprocessing(found: dict, module: MlpMixer, case: Case) -> None:
    """Checks what timm will do to images."""
    from timm.data import resolve_data_config

    channels = module.image_channels
    assert tuple(found["input_size"]) == (channels, *module.image_size)
    assert found["crop_pct"] == 0.9
    assert found["crop_mode"] == {"resmall": "center", "resize": "squash"}[case.crop]
    if module.num_classes:
        assert list(found["label_names"]) == [f"class {i}" for i in range(module.num_classes)]
    resolved = resolve_data_config(pretrained_cfg=found)
    assert list(resolved["mean"]) == list(resolved["std"]) == [0.5] * channels


if __name__ == "__main__":
    main()
