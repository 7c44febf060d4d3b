"""The exported file gives the model's probabilities where this package does not exist."""

import json
import subprocess
import sys
import zipfile

import jax
import numpy as np
import pytest
from flax import traverse_util

import mlp_mixer
from mlp_mixer.inference import export
from mlp_mixer.models.init import shapes

pytestmark = pytest.mark.slow

# What the docs tell users to run, where importing anything but jax and NumPy fails.
ELSEWHERE = """
import sys
for package in ("mlp_mixer", "flax", "optax", "orbax", "grain", "cv2"):
    sys.modules[package] = None
import json, zipfile
import jax, numpy as np
from jax import export
for name in ("softmax", "sigmoid"):
    with zipfile.ZipFile(f"{name}.zip") as file:
        about = json.loads(file.read("about.json"))
        model = export.deserialize(bytearray(file.read("model.jax")))
    _, h, w, c = about["input"]["shape"]
    for n in (1, 5):
        images = np.load(f"images{n}.npy")
        assert images.shape == (n, h, w, c) and images.dtype == about["input"]["dtype"]
        np.save(f"{name}{n}.npy", jax.jit(model.call)(images))
"""
ACTIVATIONS = {"softmax": jax.nn.softmax, "sigmoid": jax.nn.sigmoid}


def weights(path, num_classes=4):
    module = mlp_mixer.create(
        num_classes=num_classes,
        image_size=(8, 12),
        patch_size=4,
        num_blocks=2,
        hidden_dim=16,
        tokens_mlp_dim=8,
        channels_mlp_dim=32,
    )
    rng = np.random.default_rng(0)
    flat = {k: rng.normal(size=s).astype(np.float32) for k, s in shapes(module).items()}
    params = traverse_util.unflatten_dict(flat, sep="/")
    mlp_mixer.save(path, module, params)
    return module, params


def test_an_exported_file_needs_no_package_for_the_same_results(tmp_path):
    module, params = weights(tmp_path / "weights.npz")
    for activation in ACTIVATIONS:
        export.write(
            tmp_path / f"{activation}.zip",
            export.serialise(module, params, activation),
            {"input": {"shape": ["n", 8, 12, 3], "dtype": "uint8"}},
        )
    rng = np.random.default_rng(1)
    images = {n: rng.integers(0, 256, (n, 8, 12, 3), np.uint8) for n in (1, 5)}
    for n, batch in images.items():
        np.save(tmp_path / f"images{n}.npy", batch)
    done = subprocess.run(
        [sys.executable, "-P", "-c", ELSEWHERE], cwd=tmp_path, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for n, batch in images.items():
        logits = jax.jit(module.apply)({"params": params}, np.float32(batch) / 127.5 - 1)
        for activation, function in ACTIVATIONS.items():
            found = np.load(tmp_path / f"{activation}{n}.npy")
            np.testing.assert_allclose(found, function(logits), atol=1e-6)


def test_the_command_exports_the_requested_size_and_describes_it(tmp_path, run):
    weights(tmp_path / "weights.npz")
    # The six tokens form no square, so the size that they were made for has to be given.
    run("export", tmp_path / "weights.npz", tmp_path / "model.zip", "--image-size", "8x12")
    with zipfile.ZipFile(tmp_path / "model.zip") as file:
        about = json.loads(file.read("about.json"))
        model = jax.export.deserialize(bytearray(file.read("model.jax")))
    assert about["input"]["shape"] == ["n", 8, 12, 3]
    assert about["output"] == {"activation": "softmax", "shape": ["n", 4]}
    assert about["made_from"]["sha256"] and about["computes_in"] == "float32"
    assert set(model.platforms) == {"cpu", "cuda", "tpu"}
    with pytest.raises(ValueError, match="uint8"):
        model.call(np.zeros((1, 8, 12, 3), np.float32))


def test_command_refuses_weights_without_a_head_in_one_line(tmp_path, command):
    weights(tmp_path / "weights.npz", num_classes=0)
    files = tmp_path / "weights.npz", tmp_path / "model.zip"
    told = command("export", *files, "--image-size", "8x12")
    assert told.status == 1
    assert "no head" in told.err and "Traceback" not in told.err
    assert not (tmp_path / "model.zip").exists()


def test_a_file_that_computes_in_bfloat16_holds_such_weights(tmp_path):
    module, params = weights(tmp_path / "weights.npz")
    images = np.random.default_rng(1).integers(0, 256, (2, 8, 12, 3), np.uint8)
    export.export(
        tmp_path / "weights.npz", tmp_path / "x.zip", image_size=(8, 12), dtype="bfloat16"
    )
    with zipfile.ZipFile(tmp_path / "x.zip") as file:
        about = json.loads(file.read("about.json"))
        model = jax.export.deserialize(bytearray(file.read("model.jax")))
    assert about["computes_in"] == "bfloat16"
    kernel = r"tensor<16x32xbf16>"  # of channel mixing
    constants = [line for line in model.mlir_module().splitlines() if "stablehlo.constant" in line]
    assert any(kernel in line for line in constants)
    assert not any("tensor<16x32xf32>" in line for line in constants)
    module = module.clone(dtype=jax.numpy.bfloat16)
    logits = jax.jit(module.apply)({"params": params}, np.float32(images) / 127.5 - 1)
    np.testing.assert_allclose(model.call(images), jax.nn.softmax(logits), atol=1e-6)


@pytest.mark.parametrize("of", ["a file", "a run", "a checkpoint"])
def test_an_export_never_overwrites_what_it_is_made_of(of, finished, tmp_path, monkeypatch):
    run = finished.copy(tmp_path / "run")
    weights(tmp_path / "mine.npz")
    (tmp_path / "link.zip").symlink_to(tmp_path / "mine.npz")
    step = run / "checkpoints" / "6"
    source, names = {
        "a file": (tmp_path / "mine.npz", ["mine.npz", "link.zip"]),
        "a run": (run, ["run/model.npz", "run/config.json", "run/classes.txt"]),
        "a checkpoint": (step, ["run/config.json", next(step.rglob("manifest.ocdbt"))]),
    }[of]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(export, "load_classifier", None)  # refused before anything is computed
    for name in names:
        with pytest.raises(ValueError, match=r"would overwrite its source|not weights"):
            export.export(source, tmp_path / name)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_a_folder_is_refused_before_anything_is_exported(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "open_weights", None)
    with pytest.raises(IsADirectoryError, match=f"{tmp_path} is a folder; give the name of a file"):
        export.export("small.npz", tmp_path)


def test_an_export_is_not_given_the_name_of_weights(tmp_path, command):
    weights(tmp_path / "weights.npz")
    for name in ("other.npz", "other.safetensors"):
        told = command("export", tmp_path / "weights.npz", tmp_path / name)
        assert told.status == 1 and f"{name}: an export is a program, not weights" in told.err
        assert "mlp-mixer convert" in told.err and not (tmp_path / name).exists()
