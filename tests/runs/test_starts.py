"""WORKDIR/starts.json: how a run was started, each time."""

import json
import sys

import jax
import pytest

import mlp_mixer
from mlp_mixer.runs import starts
from mlp_mixer.runs.bucket_lock import LostLock


def test_a_start_tells_command_versions_devices_and_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/mlp-mixer", "train", "--workdir=my runs/a"])
    with starts.recorded(tmp_path, 0):
        [begun] = starts.read(tmp_path)
        assert "ended" not in begun
    [start] = starts.read(tmp_path)
    assert start["command"] == "mlp-mixer train '--workdir=my runs/a'"
    assert start["version"] == mlp_mixer.__version__ and start["after_step"] == 0
    assert start["packages"]["jax"] == jax.__version__
    assert start["devices"] == jax.device_count() and start["platform"] == "cpu"
    assert start["started"] <= start["ended"] and start["ended"].endswith("+00:00")
    assert start["peak_bytes"] is None  # a CPU does not tell


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["/lib/mlp_mixer/__main__.py", "train"], "python -m mlp_mixer train"),
        (["train.py", "--config=x"], "python train.py --config=x"),
        (["-c"], "python"),
        ([""], "python"),
    ],
)
def test_a_command_is_as_one_would_type_it(argv, words):
    assert starts.command(argv) == words


def test_a_notebooks_own_arguments_are_no_command(as_notebook):
    assert starts.command(["ipykernel_launcher.py", "-f", "kernel.json"]) == "in a notebook"


def test_a_continued_run_keeps_its_starts_and_a_new_one_does_not(tmp_path):
    for step, count in ((0, 1), (20, 2), (40, 3), (0, 1)):
        with starts.recorded(tmp_path, step):
            pass
        assert len(starts.read(tmp_path)) == count
    assert starts.read(tmp_path)[-1]["after_step"] == 0


def test_the_end_of_a_run_that_failed_is_recorded(tmp_path):
    with pytest.raises(FloatingPointError), starts.recorded(tmp_path, 0):
        raise FloatingPointError("step 3 is not finite")
    assert starts.read(tmp_path)[0]["ended"]


def test_a_run_that_lost_its_workdir_records_no_end(tmp_path, caplog):
    def lost():
        raise LostLock("another run has taken over")

    with starts.recorded(tmp_path, 0, lost):
        (tmp_path / starts.FILE).write_text(json.dumps([{"of": "another run"}]))
    assert starts.read(tmp_path) == [{"of": "another run"}]
    assert "another run has taken over" in caplog.text


@pytest.mark.parametrize("text", ["[{", "{}", "[1]", '"x"'])
def test_a_damaged_file_of_starts_stops_no_run(tmp_path, text, caplog):
    (tmp_path / starts.FILE).write_text(text)
    assert starts.read(tmp_path) == [] and "damaged" in caplog.text
    with starts.recorded(tmp_path, 20):
        pass
    assert len(starts.read(tmp_path)) == 1
