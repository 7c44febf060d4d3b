"""One run, laid over devices and processes in every way there is: the same losses and weights."""

import shutil
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

import mlp_mixer
from mlp_mixer.runs import metrics
from mlp_mixer.training import loop

from .conftest import ROOT, python_with_devices, with_devices
from .everything_random import get_config

pytestmark = pytest.mark.slow

LAYOUTS = ["replicated", "fsdp", "pmap"]


def start(workdir, devices, *arguments):
    return subprocess.Popen(
        [sys.executable, "train.py", "--config=tests/everything_random.py",
         f"--workdir={workdir}", *arguments],
        cwd=ROOT, env=with_devices(devices),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def two_processes(workdir, *arguments, devices: int = 4):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    join = [f"--coordinator={address}", "--num_processes=2"]
    return [start(workdir, devices, *arguments, *join, f"--process_id={i}") for i in (0, 1)]


def finish(*processes):
    for process in processes:
        text, _ = process.communicate(timeout=300)
        assert process.returncode == 0, text


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("layouts") / "one"
    loop.train(get_config(), workdir)
    return workdir


def scalars(workdir, name):
    return [line[name] for line in metrics.read(workdir) if name in line]


def assert_same_run(a, b):
    assert len(scalars(a, "train/loss")) == 4
    np.testing.assert_allclose(scalars(a, "train/loss"), scalars(b, "train/loss"), atol=1e-5)
    for name in ("train/accuracy", "test/accuracy"):
        assert scalars(a, name) == scalars(b, name)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5),
        mlp_mixer.load(a)[1],
        mlp_mixer.load(b)[1],
    )


# Two tests and not five: what several have in common, each of pytest's processes would make again.


def test_eight_devices_give_the_run_of_one_device(one_device, tmp_path):
    """In one process, which starts and compiles but once."""
    python_with_devices(8, f"""
        from mlp_mixer.training import loop
        from tests.everything_random import get_config
        for layout in {LAYOUTS}:
            config = get_config()
            config.layout = layout
            loop.train(config, "{tmp_path}/" + layout)
    """)  # fmt: skip
    for layout in LAYOUTS:
        assert_same_run(one_device, tmp_path / layout)


def test_two_processes_give_the_run_of_one_and_others_go_on(one_device, tmp_path):
    """Others: with another layout, on other devices, and without accumulation."""
    workdir = tmp_path / "run"
    finish(*two_processes(workdir, "--config.layout=fsdp"))
    assert_same_run(one_device, workdir)
    finish(*two_processes(tmp_path / "pmap", "--config.layout=pmap"))
    assert_same_run(one_device, tmp_path / "pmap")

    def forget_the_end():
        (workdir / "model.npz").unlink()
        shutil.rmtree(workdir / "checkpoints" / "4")

    forget_the_end()
    finish(start(workdir, 2, "--config.layout=pmap", "--config.accum_steps=1"))
    assert_same_run(one_device, workdir)
    forget_the_end()
    config = get_config()
    config.layout, config.accum_steps = "replicated", 1
    loop.train(config, workdir)
    assert_same_run(one_device, workdir)
