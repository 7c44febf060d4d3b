"""PyTorch's checkpoints are not read; the command that the message gives converts them."""

import argparse
import shlex
import subprocess
import sys
import types

import numpy as np
import pytest

import mlp_mixer
from mlp_mixer.weights import naming


def command(path):
    """The words of the command in the message for a file."""
    with pytest.raises(ValueError, match="is a PyTorch pickle") as error:
        mlp_mixer.load(path)
    text = str(error.value)
    return shlex.split(text[text.index("python -c") :])


def checkpoints(weights):
    """What training code of many kinds saves, by its name; `weights` makes tensors of an offset."""
    prefixed = {f"model.{name}": array for name, array in weights(0).items()}
    return {
        "plain": weights(0),
        "timm": {
            "epoch": 3, "arch": "mixer_b16_224", "state_dict": weights(0), "version": 2,
            "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}, "metric": 0.5,
            "args": argparse.Namespace(lr=0.1, betas=[0.9, 0.999], name=None),
        },
        "timm with averages": {
            "state_dict": weights(1), "state_dict_ema": weights(0), "args": argparse.Namespace(),
        },
        "lightning": {
            "state_dict": prefixed, "hyper_parameters": {"lr": 0.1}, "loops": {}, "epoch": 1,
            "pytorch-lightning_version": "2.5.0", "optimizer_states": [{"state": {}}],
            "callbacks": {"ModelCheckpoint{'monitor': 'acc'}": {"best_model_score": None}},
        },
        "model": {"model": weights(0), "optimizer": {"state": {}}, "step": 7},
    }  # fmt: skip


KINDS = tuple(checkpoints(lambda by: {}))


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_finds_the_weights(kind, flat, tmp_path, monkeypatch):
    """With stand-ins for torch and safetensors, which tests need not have."""

    class Tensor:
        def __init__(self, array, made="as it was"):
            self.array, self.made = array, made

        def contiguous(self):
            return Tensor(self.array, "contiguous")

        def clone(self):
            return Tensor(self.array, f"a copy of {self.made}")

    arrays = naming.to_layout(flat, "timm")
    saved, allowed = {}, []
    content = checkpoints(lambda by: {n: Tensor(a + by) for n, a in arrays.items()})[kind]
    torch, package = types.ModuleType("torch"), types.ModuleType("safetensors")
    torch.Tensor, package.torch = Tensor, types.ModuleType("safetensors.torch")
    torch.serialization = types.SimpleNamespace(add_safe_globals=allowed.extend)
    package.torch.save_file = lambda tensors, path: saved.update({path: tensors})

    def read(path, map_location, weights_only):
        assert (map_location, weights_only) == ("cpu", True)
        return {str(tmp_path / "it's.pth"): content}[path]

    torch.load = read
    for name, module in (("torch", torch), ("safetensors", package)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "safetensors.torch", package.torch)
    (tmp_path / "it's.pth").write_bytes(b"\x80\x02")
    python, option, program = command(tmp_path / "it's.pth")
    assert (python, option) == ("python", "-c")
    exec(program, {})
    assert allowed == [argparse.Namespace]
    ((path, tensors),) = saved.items()
    assert path == str(tmp_path / "it's.safetensors")
    prefix = "model." if kind == "lightning" else ""
    assert set(tensors) == {prefix + name for name in arrays}
    for name, array in arrays.items():
        tensor = tensors[prefix + name]
        np.testing.assert_array_equal(tensor.array, array)
        assert tensor.made == "a copy of contiguous"


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_works_as_it_stands(kind, flat, tmp_path, equal):
    torch = pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    arrays = naming.to_layout(flat, "timm")

    def weights(by):
        tensors = {n: torch.tensor(np.ascontiguousarray(a) + by) for n, a in arrays.items()}
        stem = tensors["stem.proj.weight"].to(memory_format=torch.channels_last)
        assert not stem.is_contiguous()
        both = torch.cat([tensors["norm.weight"], tensors["norm.bias"]])  # one memory for two
        return tensors | {
            "stem.proj.weight": stem, "norm.weight": both[:8], "norm.bias": both[8:]
        }  # fmt: skip

    torch.save(checkpoints(weights)[kind], tmp_path / "my best.pth.tar")
    words = command(tmp_path / "my best.pth.tar")
    subprocess.run([sys.executable, *words[1:]], check=True, timeout=300)
    equal(mlp_mixer.load(tmp_path / "my best.pth.safetensors")[1], flat)
