"""Runs that are killed, asked to end, or started twice."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from mlp_mixer.evaluation.classification import Classification
from mlp_mixer.training import checkpoint, digests, loop, metrics
from mlp_mixer.training.preemption import Preemption

from .conftest import ROOT
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


def test_a_run_killed_three_times_and_asked_to_end_once_is_bit_equal_to_an_uninterrupted_one(
    straight, tmp_path
):
    folder = tmp_path / "checkpoints"

    def writing():
        return folder.is_dir() and any("unverified" in path.name for path in folder.iterdir())

    def kill_when(condition):
        process = start(tmp_path, *RUN)
        wait_for(process, condition)
        process.kill()
        process.communicate()

    kill_when(writing)
    kill_when(lambda: saved(tmp_path)() and writing())
    asked = start(tmp_path, *RUN)
    wait_for(asked, saved(tmp_path, beyond=checkpoint.latest_step(tmp_path)))
    asked.terminate()
    _, text = asked.communicate(timeout=120)
    step = checkpoint.latest_step(tmp_path)
    assert f"stopped by SIGTERM; step {step} is saved" in text and "Traceback" not in text
    assert asked.returncode == STOPPED
    kill_when(saved(tmp_path, beyond=step))
    assert not (tmp_path / "model.npz").exists()
    assert "continuing after step" in finish(start(tmp_path, *RUN))
    assert_same_weights(straight / "model.npz", tmp_path / "model.npz")
    folders = checkpoint.latest(straight), checkpoint.latest(tmp_path)
    assert digests.read_arrays(folders[0]) == digests.read_arrays(folders[1])  # optimizer, too
    for name in ("train/loss", "test/accuracy", "test/loss"):
        assert scalars(straight, name) == scalars(tmp_path, name)
    assert sorted(path.name for path in folder.iterdir()) == ["100", "120"]  # keep_checkpoints = 2


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


def test_an_evaluation_is_left_when_asked_to_end_and_made_up_for(tiny_config, tmp_path):
    loop.train(tiny_config, tmp_path / "straight")

    def ask_to_end(self, params):
        signal.raise_signal(signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(Classification, "run", ask_to_end)
        loop.train(tiny_config, tmp_path / "left")
    assert stopped.value.code == STOPPED
    assert checkpoint.latest_step(tmp_path / "left") == 3
    assert not scalars(tmp_path / "left", "test/accuracy")
    loop.train(tiny_config, tmp_path / "left")
    for name in ("test/accuracy", "test/loss"):
        assert scalars(tmp_path / "left", name) == scalars(tmp_path / "straight", name)
    assert_same_weights(tmp_path / "straight", tmp_path / "left")


def test_workers_that_end_with_the_run_are_no_error_even_before_the_first_step(
    tiny_config, tmp_path
):
    loop.train(tiny_config, tmp_path / "straight")

    def end_all(*args, **kwargs):
        signal.raise_signal(signal.SIGTERM)
        raise ChildProcessError("one of the processes that load images died")
        yield

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(loop.pipeline, "train_batches", end_all)
        loop.train(tiny_config, tmp_path / "ended")
    assert stopped.value.code == STOPPED
    loop.train(tiny_config, tmp_path / "ended")
    assert_same_weights(tmp_path / "straight", tmp_path / "ended")


def test_ctrl_c_is_noted_once_and_the_next_signal_ends_the_process():
    before = signal.getsignal(signal.SIGINT)
    with Preemption() as preemption:
        assert not preemption.reached(1)
        signal.raise_signal(signal.SIGINT)
        assert preemption.reached(2)
        handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        assert handlers == [signal.SIG_DFL] * 2
    assert signal.getsignal(signal.SIGINT) == before
    with pytest.raises(SystemExit) as stopped:
        preemption.exit(2)
    assert stopped.value.code == 128 + signal.SIGINT


def test_a_workdir_in_use_is_refused_until_its_process_is_gone(tiny_config, tmp_path):
    """Even if that process has left a child of its own, such as one that loads data."""
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(f"""
            import os, pathlib, time
            from mlp_mixer.training import workdir
            with workdir.lock(pathlib.Path({str(tmp_path)!r})):
                child = os.fork()
                if child:
                    print(child, flush=True)
                time.sleep(600)
        """)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    child = int(holder.stdout.readline())
    with pytest.raises(ValueError, match=rf"under way \(process {holder.pid} on .* since"):
        loop.train(tiny_config, tmp_path)
    holder.kill()
    holder.wait()
    loop.train(tiny_config, tmp_path)
    os.kill(child, signal.SIGKILL)


def test_a_workdir_that_is_an_address_is_refused(tiny_config):
    with pytest.raises(ValueError, match=r"gs:/+bucket/run is an address.*Mount"):
        loop.train(tiny_config, "gs://bucket/run")
