"""One run, laid over devices and processes in every way there is: the same losses and weights."""

import shutil

import jax
import numpy as np
import pytest

import mlp_mixer
from mlp_mixer.runs import metrics
from mlp_mixer.training import loop
from mlp_mixer.training.recipe import make_model

from .bucket import free_port
from .conftest import nowhere_zero, with_devices
from .everything_random import get_config
from .forks import Fork
from .processes import finish

pytestmark = pytest.mark.slow

# Trains one run after another, each of: workdir, layout, accum_steps, images of a group, teacher.
TRAIN = """
import sys
from mlp_mixer.runtime import processes
from mlp_mixer.training import loop
from tests.everything_random import get_config

address, number, *runs = sys.argv[1:]
if address:
    processes.initialise(address, 2, int(number))
for run in runs:
    workdir, layout, accum_steps, group_size, teacher = run.split(",")
    config = get_config(int(group_size), teacher)
    config.layout, config.accum_steps = layout, int(accum_steps)
    loop.train(config, workdir)
"""


def start(devices, *runs, address="", number=0):
    return Fork(TRAIN, address, number, *runs, env=with_devices(devices))


def scalars(workdir, name):
    return [line[name] for line in metrics.read(workdir) if name in line]


def assert_same_run(one, workdir, atol=1e-5):
    assert len(scalars(one, "train/loss")) == 4
    np.testing.assert_allclose(
        scalars(one, "train/loss"), scalars(workdir, "train/loss"), atol=1e-5
    )
    for name in ("train/accuracy", "test/accuracy"):
        assert scalars(one, name) == scalars(workdir, name)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=atol),
        mlp_mixer.load(one)[1],
        mlp_mixer.load(workdir)[1],
    )


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A classifier of digits that has an opinion."""
    module = make_model(get_config(teacher="any"), 10)
    rng = np.random.default_rng(0)
    params = nowhere_zero(module, rng)
    path = tmp_path_factory.mktemp("teacher") / "teacher.npz"
    mlp_mixer.save(path, module, params)
    return str(path)


# One test and not several: what they have in common, each of pytest's processes would make again.


def test_every_layout_gives_the_run_of_one_device(tmp_path, teacher):
    """And a run goes on with another layout, on other devices, and without accumulation.

    Two of the runs learn from a teacher, which is split and shared as the layout has it; the others
    from mixed and smoothed labels.
    """
    one, taught, eight, two = (tmp_path / name for name in ("one", "taught", "eight", "two"))

    def train_here(workdir, teacher=""):
        config = get_config(teacher=teacher)
        config.layout, config.accum_steps = "replicated", 1
        loop.train(config, workdir)

    def forget_the_end(workdir):
        (workdir / "model.npz").unlink()
        shutil.rmtree(workdir / "checkpoints" / "4")

    train_here(one)
    train_here(taught, teacher)
    address = f"127.0.0.1:{free_port()}"
    runs = f"{two}/fsdp,fsdp,2,0,", f"{two}/pmap,pmap,2,0,{teacher}"
    finish(*(start(4, *runs, address=address, number=i) for i in (0, 1)))
    assert_same_run(one, two / "fsdp")
    assert_same_run(taught, two / "pmap")

    forget_the_end(two / "fsdp")
    runs = [f"{eight}/{x},{x},2,0," for x in ("replicated", "pmap")]
    finish(start(8, *runs, f"{two}/fsdp,pmap,2,0,", f"{eight}/fsdp,fsdp,2,0,{teacher}"))
    for workdir in (eight / "replicated", eight / "pmap", two / "fsdp"):
        assert_same_run(one, workdir)
    assert_same_run(taught, eight / "fsdp")

    forget_the_end(two / "fsdp")
    train_here(two / "fsdp")
    assert_same_run(one, two / "fsdp")


def test_two_processes_share_a_perturbation_as_one_has_it(tmp_path):
    """GSAM with one group, whose images lie on both."""
    one, two = tmp_path / "one", tmp_path / "two"
    loop.train(get_config(group_size=32), one)
    address, run = f"127.0.0.1:{free_port()}", f"{two},fsdp,2,32,"
    finish(*(start(1, run, address=address, number=i) for i in (0, 1)))
    assert_same_run(one, two, atol=5e-5)  # rounding errors are perturbed, too
    for name in ("rho", "surrogate_gap", "clean_grad_norm"):
        found = [scalars(workdir, f"train/{name}") for workdir in (one, two)]
        np.testing.assert_allclose(*found, atol=1e-5)
