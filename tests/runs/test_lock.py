"""The lock of a workdir: one run at a time, of one folder."""

import subprocess
import sys
import threading
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from mlp_mixer.runs import holders, lock

# Another process takes the lock as the system has it; without jax that is a moment.
TAKE = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'a'), fcntl.LOCK_EX | fcntl.LOCK_NB)"


def another_process_gets_in(workdir) -> bool:
    command = [sys.executable, "-c", TAKE, str(workdir / holders.FILE)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def test_two_runs_of_one_process_are_kept_apart(tmp_path):
    found = []

    def second(path):
        try:
            with lock.hold(path):
                found.append("got in")
        except ValueError as error:
            found.append(str(error))

    (tmp_path / "link").symlink_to(tmp_path / "run")
    with lock.hold(tmp_path / "run"):
        second(tmp_path / "run")
        thread = threading.Thread(target=second, args=(tmp_path / "link",))
        thread.start()
        thread.join()
        assert all("is under way (process" in message for message in found) and len(found) == 2
        assert not another_process_gets_in(tmp_path / "run")
        with lock.hold(tmp_path / "other"):
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
    with pytest.raises(ValueError, match="a wrong config"), lock.hold(workdir):
        if written:
            (workdir / "config.json").touch()
        raise ValueError("a wrong config")
    assert workdir.exists() == (before or written)


def test_processes_with_workdirs_of_their_own_are_all_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(lock, "SHARED_SECONDS", 0.3)
    monkeypatch.setattr(lock, "from_process_0", lambda number: 7)
    others = SimpleNamespace(process_allgather=lambda mine: np.array([1, mine, 1]))
    monkeypatch.setattr(lock, "multihost_utils", others)
    words = r"not the same folder in all.*does not appear in 1\."
    with pytest.raises(ValueError, match=words), lock.hold(tmp_path):
        pass
    monkeypatch.setattr(jax, "process_index", lambda: 0)
    monkeypatch.setattr(lock, "from_process_0", lambda number: number())
    with lock.hold(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [holders.FILE]
