"""Runs that are killed, asked to end, or started twice."""

import logging
import os
import re
import shutil
import signal
import sys
import textwrap
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import absl.logging
import jax
import ml_collections
import pytest

from mlp_mixer.cli import config
from mlp_mixer.data import pipeline
from mlp_mixer.evaluation.classification import Classification
from mlp_mixer.runs import checkpointer, checkpoints, digests, lock, metrics
from mlp_mixer.runs.folder import is_finished
from mlp_mixer.training import loop
from mlp_mixer.training.preemption import Preemption

from .conftest import load_config, shrink
from .forks import Fork
from .processes import finish, start, start_train_py, start_two
from .runtime.test_visible_log import nothing_set_up
from .test_train import TINY, assert_same_weights, scalars

pytestmark = pytest.mark.slow

RUN = [
    *TINY, "--config.total_steps=120", "--config.eval_every_steps=40",
    "--config.checkpoint_every_steps=20",
]  # fmt: skip
STOPPED = 128 + signal.SIGTERM


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The workdir of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp("killed") / "straight"
    loop.train(config.load("digits", RUN), workdir)
    return workdir


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The workdir of an uninterrupted run of `tiny_config`, and what was seen on the way."""
    workdir, seen = tmp_path_factory.mktemp("killed") / "tiny", SimpleNamespace(at_saves={})
    save, latest = checkpointer.Checkpointer.save, loop.latest_step

    def look_and_save(self, step, state, **how):
        seen.at_saves[step] = scalars(workdir, "step"), scalars(workdir, "test/loss")
        save(self, step, state, **how)

    def look(path):
        with pytest.raises(ValueError, match="under way"), lock.hold(path):
            pass
        return latest(path)

    with pytest.MonkeyPatch.context() as patch, nothing_set_up() as stderr:
        patch.setattr(checkpointer.Checkpointer, "save", look_and_save)
        patch.setattr(loop, "latest_step", look)
        before = state_of_the_process()
        loop.train(shrink(load_config("digits")), workdir)
        after, seen.text = state_of_the_process(), stderr.getvalue()
    seen.changed = [name for name in before if before[name] != after[name]]
    return workdir, seen


def state_of_the_process() -> dict:
    """What a run might change for good."""
    logs = {None: logging.root} | logging.root.manager.loggerDict
    logs = {k: x for k, x in logs.items() if isinstance(x, logging.Logger)}
    return {
        "signals": [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)],
        "unraisablehook": sys.unraisablehook,
        "environment": dict(os.environ),
        "warnings": list(warnings.filters),
        "jax": dict(jax.config.values),
        "absl": absl.logging.get_verbosity(),
        "handlers": {k: list(x.handlers) for k, x in logs.items() if x.handlers},
        "levels": {k: x.level for k, x in logs.items() if x.level},
        "filters": {k: list(x.filters) for k, x in logs.items() if x.filters},
    }


def wait_for(process, condition, every: float = 0.05):
    """Looks every so many seconds; what it looks at may cost more than the process."""
    deadline = time.monotonic() + 240
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(every)


def saved(workdir, beyond: int = 0):
    return lambda: (checkpoints.latest_step(workdir) or 0) > beyond


def test_a_run_killed_asked_to_end_and_killed_ends_bit_equal(straight, tmp_path):
    folder = tmp_path / "checkpoints"

    def writing():
        return folder.is_dir() and any(not digests.is_sealed(path) for path in folder.iterdir())

    def kill_when(condition):
        process = start(tmp_path, *RUN)
        wait_for(process, condition, every=0.002)
        process.kill()
        process.communicate()

    kill_when(writing)
    asked = start(tmp_path, *RUN)
    wait_for(asked, saved(tmp_path, beyond=checkpoints.latest_step(tmp_path) or 0))
    asked.terminate()
    text, _ = asked.communicate(timeout=120)
    step = checkpoints.latest_step(tmp_path)
    assert f"stopped by SIGTERM; step {step} is saved" in text and "Traceback" not in text
    assert asked.returncode == STOPPED
    kill_when(lambda: writing() and saved(tmp_path, beyond=step)())
    assert not (tmp_path / "model.npz").exists()
    assert "continuing after step" in finish(start(tmp_path, *RUN))
    assert_same_weights(straight / "model.npz", tmp_path / "model.npz")
    folders = checkpoints.latest(straight), checkpoints.latest(tmp_path)
    assert digests.read_arrays(folders[0]) == digests.read_arrays(folders[1])  # optimizer, too
    for name in ("train/loss", "test/accuracy", "test/loss"):
        assert scalars(straight, name) == scalars(tmp_path, name)
    assert sorted(path.name for path in folder.iterdir()) == ["100", "120"]  # keep_checkpoints = 2


def test_two_processes_end_at_the_same_step_when_one_is_asked_to(tmp_path):
    processes = start_two(tmp_path, steps=100_000, checkpoint_every=100_000)
    wait_for(processes[0], lambda: (tmp_path / metrics.FILE).exists() and metrics.read(tmp_path))
    processes[1].terminate()
    texts = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [STOPPED, STOPPED], texts
    step = checkpoints.latest_step(tmp_path)
    assert all(f"stopped by SIGTERM; step {step} is saved" in text for text in texts)
    assert not checkpoints.what_is_wrong(checkpoints.latest(tmp_path))


def test_a_report_is_written_then_its_step_saved_then_evaluated(
    tiny,
):
    _, seen = tiny
    reports, evaluations = zip(*(seen.at_saves[step] for step in (3, 6)), strict=True)
    assert reports == ([2], [2, 3, 4, 6])  # every 2 steps, and of the evaluation at 3
    assert list(map(len, evaluations)) == [0, 1]


def test_a_run_from_python_is_seen_and_leaves_the_process_alone(tiny):
    assert tiny[1].text.count("step 6/6  loss") == 1
    assert tiny[1].changed == []


def test_a_run_goes_on_only_with_the_data_that_it_began_with(tiny_config, tiny, tmp_path):
    shutil.copytree(tiny[0], tmp_path, dirs_exist_ok=True)
    data = tmp_path / "data.json"
    data.write_text(data.read_text().replace("1437", "1438"))
    with pytest.raises(ValueError, match="examples: 1438 there, 1437 now"):
        loop.train(tiny_config, tmp_path)


def test_an_evaluation_is_left_when_asked_to_end_and_made_up_for(tiny_config, tiny, tmp_path):
    def stop(workdir):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stopped:
            patch.setattr(Classification, "run", lambda *_: signal.raise_signal(signal.SIGTERM))
            loop.train(tiny_config, workdir)
        assert stopped.value.code == STOPPED

    stop(tmp_path)
    assert checkpoints.latest_step(tmp_path) == 3
    assert not scalars(tmp_path, "test/accuracy")
    loop.train(tiny_config, tmp_path)
    for name in ("test/accuracy", "test/loss"):
        assert scalars(tmp_path, name) == scalars(tiny[0], name)
    assert_same_weights(tiny[0], tmp_path)
    stop(tmp_path)  # the run is finished, and evaluated once more


def test_an_evaluation_that_fails_costs_no_step(tiny_config, tiny, tmp_path):
    evaluate = Classification.run

    def fail(step, after: int = 0):
        """The run ends at this step, at its first evaluation but for some that work."""
        works = [True] * after

        def run(*args):
            if works:
                works.pop()
                return evaluate(*args)
            raise OSError("no such image")

        words = rf"evaluator 'test' failed at step {step}: no such image\. .*evals\.test\.enabled"
        with pytest.MonkeyPatch.context() as patch, pytest.raises(ValueError, match=words):
            patch.setattr(Classification, "run", run)
            loop.train(tiny_config, tmp_path)
        assert checkpoints.latest_step(tmp_path) == step and not is_finished(tmp_path)

    tiny_config.checkpoint_every_steps = 6
    fail(3)
    fail(3)
    fail(6, after=1)
    fail(6)
    assert_same_weights(tiny[0] / "model.npz", tmp_path / "model.npz")
    loop.train(tiny_config, tmp_path)
    assert is_finished(tmp_path)
    assert scalars(tmp_path, "test/loss") == scalars(tiny[0], "test/loss")
    assert [x["step"] for x in metrics.read(tmp_path) if "train/loss" in x] == [2, 4, 6]


def test_a_bug_in_an_evaluation_costs_no_step(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(Classification, "run", lambda *args: {}["missing"])
    tiny_config.checkpoint_every_steps = 6
    with pytest.raises(KeyError, match="missing"):
        loop.train(tiny_config, tmp_path)
    assert checkpoints.latest_step(tmp_path) == 3 and not is_finished(tmp_path)


def test_a_run_with_nothing_to_evaluate_ends_with_its_last_step(tiny_config, tmp_path, caplog):
    tiny_config.evals = ml_collections.ConfigDict()
    tiny_config.total_steps = tiny_config.checkpoint_every_steps = 2
    with tiny_config.unlocked():
        tiny_config.permuted = dict(order="pixels", patch_size=(2, 2), seed=0)
    with caplog.at_level("INFO"):
        assert loop.train(tiny_config, tmp_path) == {}
    assert "finished already" not in caplog.text
    assert is_finished(tmp_path) and not (tmp_path / "model.npz").exists()
    with caplog.at_level("INFO"):
        assert loop.train(tiny_config, tmp_path) == {}
    assert "finished already" in caplog.text


def test_workers_that_end_with_the_run_are_no_error(tiny_config, tiny, tmp_path):
    def end_all(*args, **kwargs):
        signal.raise_signal(signal.SIGTERM)
        raise ChildProcessError("one of the processes that load images died")
        yield

    for _ in range(2):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stopped:
            patch.setattr(pipeline, "train_batches", end_all)
            loop.train(tiny_config, tmp_path)
        assert stopped.value.code == STOPPED
        assert checkpoints.latest_step(tmp_path) is None  # there was nothing to save
    loop.train(tiny_config, tmp_path)
    assert_same_weights(tiny[0], tmp_path)


def test_ctrl_c_in_the_first_second_gives_no_traceback(tmp_path):
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        pytest.skip("SIGINT is ignored here, and by every child, as in a shell's background")
    process = start_train_py(tmp_path / "run")

    def imports():
        """Python, which begins by ignoring SIGPIPE, has left Ctrl-C to the system."""
        status = Path(f"/proc/{process.pid}/status").read_text()
        ignored, caught = (
            int(re.search(rf"{x}:\s*(\w+)", status)[1], 16) for x in ("SigIgn", "SigCgt")
        )
        return ignored >> (signal.SIGPIPE - 1) & 1 and not caught >> (signal.SIGINT - 1) & 1

    wait_for(process, imports, every=0.01)
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=60)
    assert (process.returncode, text) == (-signal.SIGINT, "")  # 130 in a shell


def test_ctrl_c_is_noted_once_and_the_next_signal_ends_it():
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


def test_a_workdir_in_use_is_refused_until_its_process_is_gone(tiny_config, tiny, tmp_path):
    """Even if that process has left a child of its own, such as one that loads data.

    It is killed right after a save, while nothing is being written, and before the evaluation.
    """
    told = tmp_path / "child"
    program = f"""
        import os, pathlib, time
        from ml_collections import ConfigDict
        from mlp_mixer.runs.checkpointer import Checkpointer
        from mlp_mixer.training import loop

        told, save = pathlib.Path({str(told)!r}), Checkpointer.save

        def save_and_sleep(self, *args, **kwargs):
            save(self, *args, **kwargs)
            self.wait()
            child = os.fork()
            if child:
                told.with_suffix(".part").write_text(str(child))
                told.with_suffix(".part").rename(told)
            time.sleep(600)

        Checkpointer.save = save_and_sleep
        loop.train(ConfigDict({tiny_config.to_dict()}), told.parent)
    """
    holder = Fork(textwrap.dedent(program), env=dict(os.environ))
    wait_for(holder, told.exists)
    child = int(told.read_text())
    with pytest.raises(ValueError, match=rf"under way \(process {holder.pid} on .* since"):
        loop.train(tiny_config, tmp_path)
    holder.kill()
    holder.wait()
    assert checkpoints.latest_step(tmp_path) == 3
    loop.train(tiny_config, tmp_path)
    os.kill(child, signal.SIGKILL)
    assert_same_weights(tiny[0] / "model.npz", tmp_path / "model.npz")
    assert [x["step"] for x in metrics.read(tmp_path) if "train/loss" in x] == [2, 4, 6]
    assert scalars(tmp_path, "test/loss") == scalars(tiny[0], "test/loss")


def test_a_workdir_at_an_address_of_no_bucket_is_refused(tiny_config):
    with pytest.raises(ValueError, match=r"ftp://host/run is neither a path nor .* gs:// or s3://"):
        loop.train(tiny_config, "ftp://host/run")
