"""A run goes on with the config and on the data that it began with, or not at all."""

from types import SimpleNamespace

import ml_collections
import numpy as np
import pytest

from mlp_mixer.runs.folder import DATA_FILE, claim
from mlp_mixer.training import resume


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
    claim(tmp_path, CONFIG, Data().class_names)
    resume.record_data(tmp_path, Data(), 0)
    return tmp_path


def test_a_run_goes_on_with_its_data_wherever_that_lies(begun):
    moved = ml_collections.ConfigDict({"data": {"source": "folder:y"}})
    resume.check_data(begun, moved, Data(), 3)
    resume.check_data(begun, CONFIG, Data(digest="other"), 0)  # nothing was trained on it yet


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
        resume.check_data(begun, CONFIG, data, 3)


def test_a_run_of_a_version_without_digests_goes_on_and_gets_one(begun):
    (begun / DATA_FILE).unlink()
    resume.check_data(begun, CONFIG, Data(), 3)
    moved = ml_collections.ConfigDict({"data": {"source": "folder:y"}})
    with pytest.raises(ValueError, match=r"data\.source: folder:x there, folder:y now"):
        resume.check_data(begun, moved, Data(), 3)
    resume.record_data(begun, Data(), 3)
    with pytest.raises(ValueError, match="examples: 4 there, 5 now"):
        resume.check_data(begun, CONFIG, Data(examples=5), 3)


def test_processes_that_see_different_data_are_all_told_so(begun, monkeypatch):
    monkeypatch.setattr(resume.jax, "process_count", lambda: 2)
    others = SimpleNamespace(process_allgather=lambda mine: np.array([mine, mine + 1]))
    monkeypatch.setattr(resume, "multihost_utils", others)
    with pytest.raises(ValueError, match="4 examples in process 0, 5 in process 1"):
        resume.check_data(begun, CONFIG, Data(), 0)
