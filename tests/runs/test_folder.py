"""The workdir: one run at a time, of one folder, on one data set, until it is finished."""

import shutil
import subprocess
import sys
import threading
from types import SimpleNamespace

import jax
import ml_collections
import numpy as np
import pytest

from mlp_mixer.runs import folder
from mlp_mixer.runs.folder import (
    DATA_FILE,
    LOCK_FILE,
    WEIGHTS_FILE,
    is_finished,
    lock,
    mark_finished,
)

# Another process takes the lock as the system has it; without jax that is a moment.
TAKE = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'a'), fcntl.LOCK_EX | fcntl.LOCK_NB)"


def another_process_gets_in(workdir) -> bool:
    command = [sys.executable, "-c", TAKE, str(workdir / LOCK_FILE)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


# --- the lock ---


def test_two_runs_of_one_process_are_kept_apart(tmp_path):
    found = []

    def second(path):
        try:
            with lock(path):
                found.append("got in")
        except ValueError as error:
            found.append(str(error))

    (tmp_path / "link").symlink_to(tmp_path / "run")
    with lock(tmp_path / "run"):
        second(tmp_path / "run")
        thread = threading.Thread(target=second, args=(tmp_path / "link",))
        thread.start()
        thread.join()
        assert all("is under way (process" in message for message in found) and len(found) == 2
        assert not another_process_gets_in(tmp_path / "run")
        with lock(tmp_path / "other"):
            pass
        (tmp_path / "run" / "config.json").touch()
    assert another_process_gets_in(tmp_path / "run")
    second(tmp_path / "run")
    assert found[2:] == ["got in"]


@pytest.mark.parametrize(("before", "written"), [(False, False), (True, False), (False, True)])
def test_a_new_workdir_left_empty_is_removed_again(tmp_path, before, written):
    workdir = tmp_path / "run"
    if before:
        workdir.mkdir()
    with pytest.raises(ValueError, match="a wrong config"), lock(workdir):
        if written:
            (workdir / "config.json").touch()
        raise ValueError("a wrong config")
    assert workdir.exists() == (before or written)


def test_processes_with_workdirs_of_their_own_are_all_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(folder, "SHARED_SECONDS", 0.3)
    monkeypatch.setattr(folder, "from_process_0", lambda number: 7)
    others = SimpleNamespace(process_allgather=lambda mine: np.array([1, mine, 1]))
    monkeypatch.setattr(folder, "multihost_utils", others)
    words = r"not the same folder in all.*does not appear in 1\."
    with pytest.raises(ValueError, match=words), lock(tmp_path):
        pass
    monkeypatch.setattr(jax, "process_index", lambda: 0)
    monkeypatch.setattr(folder, "from_process_0", lambda number: number())
    with lock(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [LOCK_FILE]


# --- the end ---


def test_a_run_is_finished_if_it_says_so_or_is_old_with_weights(tmp_path):
    (tmp_path / DATA_FILE).touch()
    assert not is_finished(tmp_path)
    (tmp_path / WEIGHTS_FILE).touch()  # from before the last evaluation
    assert not is_finished(tmp_path)
    mark_finished(tmp_path, 6)
    assert is_finished(tmp_path)
    earlier = tmp_path / "earlier"
    shutil.copytree(tmp_path, earlier, ignore=shutil.ignore_patterns("data.json", "finished"))
    assert is_finished(earlier) and not is_finished(tmp_path / "nothing")


def test_a_new_run_has_no_weights_of_an_earlier_one(tmp_path):
    config = ml_collections.ConfigDict({"lr": 1.0})
    (tmp_path / WEIGHTS_FILE).touch()
    folder.claim(tmp_path, config, ("a",))
    assert (tmp_path / WEIGHTS_FILE).exists()  # a run that goes on
    folder.claim(tmp_path, config, ("a",), is_new=True)
    assert not (tmp_path / WEIGHTS_FILE).exists()
