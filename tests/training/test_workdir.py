"""The workdir: one run at a time, of one folder, on one data set, until it is finished."""

import shutil
import subprocess
import sys
import threading
from types import SimpleNamespace

import ml_collections
import numpy as np
import pytest

from mlp_mixer.training import same_data
from mlp_mixer.training import workdir as run

# Another process takes the lock as the system has it; without jax that is a moment.
TAKE = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'a'), fcntl.LOCK_EX | fcntl.LOCK_NB)"


def another_process_gets_in(workdir) -> bool:
    command = [sys.executable, "-c", TAKE, str(workdir / run.LOCK_FILE)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


# --- the lock ---


def test_two_runs_of_one_process_are_kept_apart_and_no_other_process_gets_in_by_that(tmp_path):
    found = []

    def second(path):
        try:
            with run.lock(path):
                found.append("got in")
        except ValueError as error:
            found.append(str(error))

    (tmp_path / "link").symlink_to(tmp_path / "run")
    with run.lock(tmp_path / "run"):
        second(tmp_path / "run")
        thread = threading.Thread(target=second, args=(tmp_path / "link",))
        thread.start()
        thread.join()
        assert all("is under way (process" in message for message in found) and len(found) == 2
        assert not another_process_gets_in(tmp_path / "run")
        with run.lock(tmp_path / "other"):
            pass
        (tmp_path / "run" / "config.json").touch()
    assert another_process_gets_in(tmp_path / "run")
    second(tmp_path / "run")
    assert found[2:] == ["got in"]


@pytest.mark.parametrize(("before", "written"), [(False, False), (True, False), (False, True)])
def test_a_new_workdir_in_which_nothing_was_written_is_removed_again(tmp_path, before, written):
    workdir = tmp_path / "run"
    if before:
        workdir.mkdir()
    with pytest.raises(ValueError, match="a wrong config"), run.lock(workdir):
        if written:
            (workdir / "config.json").touch()
        raise ValueError("a wrong config")
    assert workdir.exists() == (before or written)


def test_processes_with_workdirs_of_their_own_are_all_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr(run.jax, "process_count", lambda: 3)
    monkeypatch.setattr(run.jax, "process_index", lambda: 1)
    monkeypatch.setattr(run, "SHARED_SECONDS", 0.3)
    monkeypatch.setattr(run, "from_process_0", lambda number: 7)
    others = SimpleNamespace(process_allgather=lambda mine: np.array([1, mine, 1]))
    monkeypatch.setattr(run, "multihost_utils", others)
    words = r"not the same folder in all.*does not appear in 1\."
    with pytest.raises(ValueError, match=words), run.lock(tmp_path):
        pass
    monkeypatch.setattr(run.jax, "process_index", lambda: 0)
    monkeypatch.setattr(run, "from_process_0", lambda number: number())
    with run.lock(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [run.LOCK_FILE]


# --- the data ---


class Data:
    """A source of which only what a run remembers is known."""

    def __init__(self, classes="ab", examples=4, digest="1f"):
        self.name, self.class_names = "folder:x", tuple(classes)
        self._examples, self._digest = examples, digest

    def __len__(self):
        return self._examples

    def digest(self):
        return self._digest


CONFIG = ml_collections.ConfigDict({"data": {"source": "folder:x"}})


@pytest.fixture
def begun(tmp_path):
    """The workdir of a run that was begun on Data()."""
    run.claim(tmp_path, CONFIG, Data().class_names)
    same_data.record(tmp_path, Data(), 0)
    return tmp_path


def test_a_run_goes_on_with_its_data_wherever_that_lies(begun):
    moved = ml_collections.ConfigDict({"data": {"source": "folder:y"}})
    same_data.check(begun, moved, Data(), 3)
    same_data.check(begun, CONFIG, Data(digest="other"), 0)  # nothing was trained on it yet


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (Data(classes="ba"), "classes: a, b there, b, a now"),
        (Data(classes=["a", "c"]), "classes: a, b there, a, c now"),
        (Data(examples=8), "examples: 4 there, 8 now"),
        (Data(digest="2f"), "names of files, labels or their order"),
    ],
)
def test_a_run_on_other_data_is_refused_and_told_how_to_go_on(begun, data, words):
    with pytest.raises(ValueError, match=f"(?s){words}.*new workdir.*--config.init_from={begun}"):
        same_data.check(begun, CONFIG, data, 3)


def test_a_run_of_a_version_without_digests_goes_on_and_gets_one(begun):
    (begun / run.DATA_FILE).unlink()
    same_data.check(begun, CONFIG, Data(), 3)
    moved = ml_collections.ConfigDict({"data": {"source": "folder:y"}})
    with pytest.raises(ValueError, match=r"data\.source: folder:x there, folder:y now"):
        same_data.check(begun, moved, Data(), 3)
    same_data.record(begun, Data(), 3)
    with pytest.raises(ValueError, match="examples: 4 there, 5 now"):
        same_data.check(begun, CONFIG, Data(examples=5), 3)


def test_processes_that_see_different_data_are_all_told_so(begun, monkeypatch):
    monkeypatch.setattr(same_data.jax, "process_count", lambda: 2)
    others = SimpleNamespace(process_allgather=lambda mine: np.array([mine, mine + 1]))
    monkeypatch.setattr(same_data, "multihost_utils", others)
    with pytest.raises(ValueError, match="4 examples in process 0, 5 in process 1"):
        same_data.check(begun, CONFIG, Data(), 0)


# --- the end ---


def test_a_run_is_finished_when_it_says_so_or_has_weights_and_is_of_an_earlier_version(begun):
    assert not run.is_finished(begun)
    (begun / run.WEIGHTS_FILE).touch()  # from before the last evaluation
    assert not run.is_finished(begun)
    run.mark_finished(begun, 6)
    assert run.is_finished(begun)
    earlier = begun / "earlier"
    shutil.copytree(begun, earlier, ignore=shutil.ignore_patterns("data.json", "finished"))
    assert run.is_finished(earlier) and not run.is_finished(begun / "nothing")
