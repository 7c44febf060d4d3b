"""Weights of training runs: a workdir, one of its checkpoints."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import mlp_mixer
from mlp_mixer.training.checkpoint import Checkpoints
from mlp_mixer.training.step import TrainState
from mlp_mixer.weights import convert


@pytest.fixture
def workdir(tmp_path, params):
    """A run with checkpoints at two steps; at step 2 every number is larger by one."""
    checkpoints = Checkpoints(tmp_path / "run", keep=2)
    for step in (1, 2):
        shifted = _shifted(params, step - 1)
        checkpoints.save(step, TrainState(jnp.int32(step), shifted, {"none": jnp.zeros(1)}))
    checkpoints.close()
    config = {"image_size": [4, 4], "model": {"patch_size": [2, 2], "gelu": "exact"}}
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    return tmp_path / "run"


def _shifted(tree, by):
    return {k: _shifted(v, by) if isinstance(v, dict) else v + by for k, v in tree.items()}


def test_a_workdir_gives_its_newest_checkpoint_and_a_step_folder_that_step(workdir, flat, equal):
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


def test_checkpoints_convert_to_published_files(workdir, flat, tmp_path, equal):
    convert.convert(workdir / "checkpoints" / "1", tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as arrays:
        equal(mlp_mixer.load(tmp_path / "x.npz")[1], dict(arrays))
        equal(mlp_mixer.load(tmp_path / "x.npz")[1], flat)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_read(workdir, flat, equal, caplog):
    step = workdir / "checkpoints" / "2"
    damage(step)
    equal(mlp_mixer.load(workdir)[1], flat)
    assert f"CHECKPOINT {step} IS DAMAGED: file params/" in caplog.text
    damage(workdir / "checkpoints" / "1")
    for source in (workdir, step):
        with pytest.raises(ValueError, match=r"damaged.*file params/.* has changed"):
            mlp_mixer.load(source)


def damage(step):
    for data in (step / "params").rglob("d/*"):
        data.write_bytes(b"")
