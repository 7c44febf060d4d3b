"""Weights of training runs: a workdir, one of its checkpoints."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as jax_export

import mlp_mixer
from mlp_mixer.inference import export
from mlp_mixer.models.architectures import ARCHITECTURES
from mlp_mixer.models.init import init
from mlp_mixer.models.permuted import Permuted
from mlp_mixer.runs.checkpointer import Checkpointer
from mlp_mixer.runs.checkpoints import TrainState
from mlp_mixer.weights import convert, files, load

pytestmark = pytest.mark.slow


@pytest.fixture
def workdir(tmp_path, params):
    """A run with checkpoints at two steps; at step 2 every number is larger by one."""
    checkpoints = Checkpointer(tmp_path / "run", keep=2)
    for step in (1, 2):
        shifted = _shifted(params, step - 1)
        checkpoints.save(step, TrainState(jnp.int32(step), shifted, {"none": jnp.zeros(1)}))
    checkpoints.close()
    config = {"image_size": [4, 4], "model": {"patch_size": [2, 2], "gelu": "exact"}}
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    return tmp_path / "run"


def _shifted(tree, by):
    return {k: _shifted(v, by) if isinstance(v, dict) else v + by for k, v in tree.items()}


def test_a_workdir_gives_its_newest_step_a_step_folder_its_own(workdir, flat, equal):
    equal(mlp_mixer.load(workdir)[1], {n: a + 1 for n, a in flat.items()})
    equal(mlp_mixer.load(workdir / "checkpoints" / "1")[1], flat)


def test_a_finished_run_gives_its_weights_file(workdir, module, params, flat, equal):
    mlp_mixer.save(workdir / "model.npz", module, params)
    equal(mlp_mixer.load(workdir)[1], flat)


def test_the_runs_config_says_size_and_gelu(workdir, module):
    assert mlp_mixer.load(workdir)[0] == module.clone(gelu="exact")
    config = json.loads((workdir / "config.json").read_text()) | {"image_size": [2, 8]}
    (workdir / "config.json").write_text(json.dumps(config))
    assert mlp_mixer.load(workdir / "checkpoints" / "2")[0].image_size == (2, 8)


def test_a_checkpoint_away_from_its_run_is_taken_to_be_square(workdir, tmp_path, module):
    (workdir / "checkpoints" / "2").rename(tmp_path / "7")
    assert mlp_mixer.load(tmp_path / "7")[0] == module


def test_a_checkpoint_away_from_its_run_says_what_is_assumed(workdir, tmp_path, caplog):
    mlp_mixer.load(workdir / "checkpoints" / "2")
    assert "assumed" not in caplog.text
    (workdir / "checkpoints" / "2").rename(tmp_path / "7")
    mlp_mixer.load(tmp_path / "7")
    (record,) = (record for record in caplog.records if "assumed" in record.message)
    assert record.levelname == "WARNING" and str(tmp_path / "7") in record.message
    for words in ("tanh GELU", "pixels in their order", "crop resmall 0.875", "softmax loss",
                  "no class names", "load the run's workdir", ".npz"):  # fmt: skip
        assert words in record.message


def test_a_checkpoint_is_used_as_its_run_says(workdir, params, module, tmp_path, monkeypatch):
    """In its workdir, from inside it, and as model.npz copied away from it."""
    (workdir / "classes.txt").write_text("red\ngreen\nblue\n")
    config = json.loads((workdir / "config.json").read_text())
    config |= {"eval_crop": "resize", "eval_crop_fraction": 0.9, "loss": "sigmoid"}
    (workdir / "config.json").write_text(json.dumps(config))
    want = dict(class_names=("red", "green", "blue"), crop="resize", crop_fraction=0.9,
                loss="sigmoid")  # fmt: skip
    step = workdir / "checkpoints" / "2"
    convert.convert(step, tmp_path / "x.safetensors")
    for source in (workdir, step, tmp_path / "x.safetensors"):
        assert load.read(source).settings == want
        assert load.read(source).module.gelu == "exact"
    for folder, source in ((step, "."), (step.parent, "2"), (workdir, "checkpoints/2")):
        monkeypatch.chdir(folder)
        assert load.read(source).settings == want
    mlp_mixer.save(workdir / "model.npz", module, params)  # as e108a84 left it: without names
    assert load.read(workdir / "model.npz").settings == want
    monkeypatch.chdir(workdir)
    assert load.read("model.npz").settings == want


MODELS = {
    "vit": dict(patch_size=(2, 2), num_blocks=1, hidden_dim=8, mlp_dim=8, num_heads=2),
    "bit": dict(stages=(1, 1), width=4, groups=2, stem="3x3"),
    "mixer": dict(patch_size=(2, 2), num_blocks=1, hidden_dim=8, tokens_mlp_dim=4,
                  channels_mlp_dim=8),
}  # fmt: skip


@pytest.mark.parametrize(
    ("architecture", "permuted"),
    [("vit", None), ("bit", None), ("mixer", "pixels")],
)
def test_runs_of_other_models_are_read_as_what_they_are(architecture, permuted, tmp_path):
    config = dict(architecture=architecture, image_size=(4, 4), image_channels=3,
                  model=MODELS[architecture])  # fmt: skip
    module = ARCHITECTURES[architecture].create(
        num_classes=3, image_size=(4, 4), **MODELS[architecture]
    )
    if permuted:
        config["permuted"] = dict(order=permuted, patch_size=(2, 2), seed=5)
        module = Permuted(module, permuted, (2, 2), 5)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: init(module))
    params = jax.tree.map(lambda x: rng.normal(0, 0.5, x.shape).astype(np.float32), shapes)
    with Checkpointer(tmp_path / "run", keep=1) as checkpoints:
        checkpoints.save(1, TrainState(jnp.int32(1), params, {"none": jnp.zeros(1)}))
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    pixels = rng.integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    images = pixels / np.float32(127.5) - 1
    want = jax.jit(module.apply)({"params": params}, images)
    loaded, found = mlp_mixer.load(tmp_path / "run")
    assert loaded == module
    np.testing.assert_array_equal(jax.jit(loaded.apply)({"params": found}, images), want)
    if permuted:  # which is not what the model itself makes of the pixels
        assert np.abs(jax.jit(loaded.model.apply)({"params": found}, images) - want).max() > 1e-3
    body, features = mlp_mixer.load(tmp_path / "run", num_classes=0)
    assert body.num_classes == 0 and features.keys() == found.keys() - {"head"}
    other, new = mlp_mixer.load(tmp_path / "run", num_classes=7)
    assert other.num_classes == len(new["head"]["bias"]) == new["head"]["kernel"].shape[1] == 7
    if architecture != "bit":  # which takes longer than all others together
        exported = jax_export.deserialize(bytearray(export.serialise(loaded, found)))
        np.testing.assert_allclose(exported.call(pixels), jax.nn.softmax(want), atol=1e-5)
    for call, match in (
        (lambda: convert.convert(tmp_path / "run", tmp_path / "x.npz"), "can say; use the run's"),
        (lambda: mlp_mixer.load(tmp_path / "run", image_size=8), "as it was trained only"),
        (lambda: mlp_mixer.load(tmp_path / "run", gelu="exact"), "as it was trained only"),
        (lambda: mlp_mixer.save(tmp_path / "x.npz", loaded, found), "weights of a Mixer"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
    assert not (tmp_path / "x.npz").exists()


def test_checkpoints_convert_to_published_files(workdir, flat, tmp_path, equal):
    convert.convert(workdir / "checkpoints" / "1", tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as arrays:
        equal(mlp_mixer.load(tmp_path / "x.npz")[1], dict(arrays))
        equal(mlp_mixer.load(tmp_path / "x.npz")[1], flat)


def test_a_damaged_checkpoint_is_named_and_the_previous_one_read(workdir, flat, equal, caplog):
    step = workdir / "checkpoints" / "2"
    damage(step)
    equal(mlp_mixer.load(workdir)[1], flat)
    assert f"CHECKPOINT {step} IS DAMAGED: file params/" in caplog.text
    damage(workdir / "checkpoints" / "1")
    for source in (workdir, step):
        with pytest.raises(ValueError, match=r"damaged.*file params/.* has changed"):
            mlp_mixer.load(source)
    with pytest.raises(ValueError, match="has changed; give another checkpoint of the run"):
        mlp_mixer.load(step)


def damage(step):
    for data in (step / "params").rglob("d/*"):
        data.write_bytes(b"")


def test_a_run_in_a_bucket_may_have_a_dot_in_its_name(bucket, module, params, flat, equal):
    for name in ("lr_0.003", "mixer-v1.5"):
        workdir = bucket / "sweep" / name
        mlp_mixer.save(workdir / "model.npz", module, params)
        config = {"image_size": [4, 4], "model": {"patch_size": [2, 2]}, "eval_crop": "resize"}
        (workdir / "config.json").write_text(json.dumps(config))
        _, read, said = load.read(f"{bucket}/sweep/{name}")
        equal(read, flat)
        assert said == {"crop": "resize"} and files.is_here(f"{bucket}/sweep/{name}")


def test_an_object_that_is_no_weights_says_what_it_is(bucket):
    (bucket / "weights.h5").write_bytes(b"\x89HDF and more")
    with pytest.raises(ValueError, match="like an HDF5 file"):
        mlp_mixer.load(f"{bucket}/weights.h5")
    with pytest.raises(ValueError, match="weights_only=True"):
        mlp_mixer.load(f"{bucket}/weights.pth")
