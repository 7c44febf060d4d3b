"""Runs that are killed, asked to end, or started twice."""

import shutil
import signal
import time

import pytest

from mlp_mixer.training import checkpoint, digests, metrics

from .test_layouts import two_processes
from .test_train import TINY, assert_same_weights, finish, scalars, start

RUN = [
    *TINY, "--config.total_steps=120", "--config.eval_every_steps=40",
    "--config.checkpoint_every_steps=20",
]  # fmt: skip
STOPPED = 128 + signal.SIGTERM


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The workdir of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp("killed") / "straight"
    finish(start(workdir, *RUN))
    return workdir


def wait_for(process, condition):
    deadline = time.monotonic() + 240
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.002)


def saved(workdir, beyond: int = 0):
    return lambda: (checkpoint.latest_step(workdir) or 0) > beyond


def assert_same_end(straight, other):
    assert_same_weights(straight / "model.npz", other / "model.npz")
    folders = checkpoint.latest(straight), checkpoint.latest(other)
    assert digests.read_arrays(folders[0]) == digests.read_arrays(folders[1])  # optimizer, too
    for name in ("test/accuracy", "test/loss"):
        assert scalars(straight, name) == scalars(other, name)


def test_a_run_killed_three_times_ends_bit_equal_to_an_uninterrupted_one(straight, tmp_path):
    folder = tmp_path / "checkpoints"

    def writing():
        return folder.is_dir() and any("unverified" in path.name for path in folder.iterdir())

    def verified_and_more():
        return saved(tmp_path)() and writing()

    def killed_when(condition):
        process = start(tmp_path, *RUN)
        wait_for(process, condition)
        process.kill()
        process.communicate()
        assert not (tmp_path / "model.npz").exists()

    killed_when(writing)
    killed_when(verified_and_more)
    killed_when(saved(tmp_path, beyond=checkpoint.latest_step(tmp_path)))
    assert "continuing after step" in finish(start(tmp_path, *RUN))
    assert_same_end(straight, tmp_path)
    assert [path.name for path in folder.iterdir()] == ["120"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_asked_to_end_saves_ends_and_continues_bit_equal(number, straight, tmp_path):
    process = start(tmp_path, *RUN)
    wait_for(process, lambda: (tmp_path / metrics.FILE).exists() and scalars(tmp_path, "train/lr"))
    process.send_signal(number)
    _, text = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    step = checkpoint.latest_step(tmp_path)
    assert f"stopped by {number.name}; step {step} is saved" in text and "Traceback" not in text
    assert f"continuing after step {step}" in finish(start(tmp_path, *RUN))
    assert_same_end(straight, tmp_path)
    assert scalars(tmp_path, "train/loss") == scalars(straight, "train/loss")


def test_two_processes_end_at_the_same_step_when_one_is_asked_to(tmp_path):
    run = ["--config.total_steps=100000", "--config.checkpoint_every_steps=100000"]
    processes = two_processes(tmp_path, *run)
    wait_for(processes[0], lambda: (tmp_path / metrics.FILE).exists() and metrics.read(tmp_path))
    processes[1].terminate()
    texts = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [STOPPED, STOPPED], texts
    step = checkpoint.latest_step(tmp_path)
    assert all(f"stopped by SIGTERM; step {step} is saved" in text for text in texts)
    assert not checkpoint.damage(checkpoint.latest(tmp_path))


def test_a_workdir_in_use_is_refused_until_its_process_is_gone(tmp_path):
    first = start(tmp_path, *RUN, "--config.total_steps=100000")
    wait_for(first, (tmp_path / "config.json").exists)
    second = start(tmp_path, *RUN, "--config.total_steps=100000")
    _, text = second.communicate(timeout=120)
    assert second.returncode == 1 and "Traceback" not in text
    assert f"under way (process {first.pid} on" in text
    first.kill()
    first.communicate()
    third = start(tmp_path, *RUN, "--config.total_steps=100000")
    wait_for(third, saved(tmp_path))
    third.kill()
    third.communicate()
