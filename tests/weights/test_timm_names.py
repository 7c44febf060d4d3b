"""timm's layout, and its logits where torch and timm are installed."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest

import mlp_mixer
from mlp_mixer.models.mixer import MlpBlock
from mlp_mixer.weights import naming, safetensors

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "timm_logits.py"


def test_round_trip_through_timms_layout_is_bit_equal(flat, tmp_path, equal):
    safetensors.write(tmp_path / "x.safetensors", naming.to_layout(flat, "timm"))
    equal(mlp_mixer.load(tmp_path / "x.safetensors")[1], flat)


def test_names_and_axes_are_pytorchs(flat):
    timm = naming.to_layout(flat, "timm")
    assert timm["stem.proj.weight"].shape == (8, 3, 2, 2)
    assert timm["blocks.1.mlp_tokens.fc1.weight"].shape == (6, 4)
    assert timm["blocks.0.mlp_channels.fc2.bias"].shape == (8,)
    assert timm["blocks.1.norm2.weight"] is flat["MixerBlock_1/LayerNorm_1/scale"]
    np.testing.assert_array_equal(timm["head.weight"].T, flat["head/kernel"])
    # Pixel (row 1, column 0) of colour 2 into unit 5: the convolution's indices in either order.
    assert timm["stem.proj.weight"][5, 2, 1, 0] == flat["stem/kernel"][1, 0, 2, 5]


def test_gelu_is_exact_for_timm_and_tanh_for_published_weights(flat, file, tmp_path):
    safetensors.write(tmp_path / "x.safetensors", naming.to_layout(flat, "timm"))
    assert mlp_mixer.load(tmp_path / "x.safetensors")[0].gelu == "exact"
    assert mlp_mixer.load(tmp_path / "x.safetensors", gelu="tanh")[0].gelu == "tanh"
    assert mlp_mixer.load(file)[0].gelu == "tanh"
    with pytest.raises(ValueError, match="gelu 'erf'; use one of tanh, exact"):
        mlp_mixer.load(file, gelu="erf")


@pytest.mark.parametrize("gelu", ["exact", "tanh"])
def test_both_gelus_are_what_their_names_say(gelu):
    x = np.linspace(-4, 4, 41, dtype=np.float32)[:, None]
    one = {"kernel": np.ones((1, 1), np.float32), "bias": np.zeros(1, np.float32)}
    block = MlpBlock(mlp_dim=1, gelu=gelu)
    result = block.apply({"params": {"Dense_0": one, "Dense_1": one}}, x)[:, 0]
    if gelu == "exact":  # x times the normal distribution's cumulative function
        phi = [0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x[:, 0]]
    else:
        phi = [
            0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) for v in x[:, 0]
        ]
    np.testing.assert_allclose(result, x[:, 0] * phi, atol=1e-6)
    with pytest.raises(ValueError, match="unknown gelu 'relu'"):
        mlp_mixer.create("S/32", gelu="relu")


def test_the_package_safetensors_reads_what_is_written(flat, tmp_path):
    theirs = pytest.importorskip("safetensors.numpy")
    arrays = naming.to_layout(flat, "timm")
    safetensors.write(tmp_path / "x.safetensors", arrays)
    loaded = theirs.load_file(tmp_path / "x.safetensors")
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)


def test_files_of_the_package_safetensors_are_read(flat, tmp_path, equal):
    theirs = pytest.importorskip("safetensors.numpy")
    arrays = {n: np.ascontiguousarray(a) for n, a in naming.to_layout(flat, "timm").items()}
    theirs.save_file(arrays, tmp_path / "x.safetensors", metadata={"format": "pt"})
    equal(mlp_mixer.load(tmp_path / "x.safetensors")[1], flat)


@pytest.mark.parametrize("gelu", ["exact", "tanh"])
def test_logits_equal_timms_own(gelu, tmp_path):
    for package in ("torch", "timm", "safetensors"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    spec = importlib.util.spec_from_file_location("timm_logits", BENCHMARK)
    peer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer)
    model = peer.random_model("mixer_s32_224", act_layer=peer.ACTIVATIONS[gelu], img_size=64)
    theirs, same, other = peer.compare(model, tmp_path, gelu)
    np.testing.assert_allclose(same, theirs, atol=1e-4, rtol=0)
    assert np.abs(other - theirs).max() > 1e-4  # so the comparison can tell the two GELUs apart
    assert peer.round_trip(tmp_path) == "bit-equal"
