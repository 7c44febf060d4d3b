"""One run, laid over devices and processes in every way there is: the same losses and weights."""

import shutil
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

import mlp_mixer
from mlp_mixer.training import metrics

from .conftest import ROOT, with_devices

# All that is random or depends on the row: RandAugment, mixup, stochastic depth.
RUN = [
    "--config=configs/digits.py", "--config.total_epochs=0", "--config.total_steps=20",
    "--config.model.num_blocks=2", "--config.model.hidden_dim=16", "--config.batch_size=32",
    "--config.model.tokens_mlp_dim=8", "--config.model.channels_mlp_dim=32",
    "--config.model.stoch_depth=0.5", "--config.mixup=0.5", "--config.accum_steps=2",
    "--config.augment.randaugment_layers=2", "--config.augment.randaugment_magnitude=3",
    "--config.warmup_steps=5", "--config.log_every_steps=1", "--config.keep_checkpoints=2",
    "--config.eval_every_epochs=0", "--config.eval_every_steps=20",
    "--config.checkpoint_every_epochs=0", "--config.checkpoint_every_steps=10",
    # Small: where the true gradient is zero (the second bias of token mixing, which the LayerNorm
    # after it takes out again) Adam makes steps of up to this size out of rounding errors.
    "--config.lr=0.0003",
]  # fmt: skip


def start(workdir, devices, *arguments):
    return subprocess.Popen(
        [sys.executable, "train.py", *RUN, f"--workdir={workdir}", *arguments],
        cwd=ROOT, env=with_devices(devices),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def two_processes(workdir, *arguments):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    join = [f"--coordinator={address}", "--num_processes=2"]
    return [start(workdir, 4, *arguments, *join, f"--process_id={i}") for i in (0, 1)]


def finish(*processes):
    for process in processes:
        text, _ = process.communicate(timeout=300)
        assert process.returncode == 0, text


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("layouts") / "one"
    finish(start(workdir, 1))
    return workdir


def scalars(workdir, name):
    return [line[name] for line in metrics.read(workdir) if name in line]


def assert_same_run(a, b):
    assert len(scalars(a, "train/loss")) == 20
    np.testing.assert_allclose(scalars(a, "train/loss"), scalars(b, "train/loss"), atol=1e-5)
    for name in ("train/accuracy", "test/accuracy"):
        assert scalars(a, name) == scalars(b, name)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5),
        mlp_mixer.load(a)[1],
        mlp_mixer.load(b)[1],
    )


@pytest.mark.parametrize("layout", ["replicated", "fsdp", "pmap"])
def test_eight_devices_give_the_run_of_one_device(layout, one_device, tmp_path):
    finish(start(tmp_path / layout, 8, f"--config.layout={layout}"))
    assert_same_run(one_device, tmp_path / layout)


@pytest.mark.parametrize("layout", ["fsdp", "pmap"])
def test_two_processes_give_the_run_of_one_device(layout, one_device, tmp_path):
    finish(*two_processes(tmp_path / layout, f"--config.layout={layout}"))
    assert_same_run(one_device, tmp_path / layout)


def test_a_run_goes_on_in_another_layout_and_on_other_devices(one_device, tmp_path):
    workdir = tmp_path / "run"
    finish(*two_processes(workdir, "--config.layout=fsdp"))
    for layout, devices in (("pmap", 2), ("replicated", 1)):
        (workdir / "model.npz").unlink()
        shutil.rmtree(workdir / "checkpoints" / "20")
        finish(start(workdir, devices, f"--config.layout={layout}", "--config.accum_steps=1"))
        assert_same_run(one_device, workdir)
