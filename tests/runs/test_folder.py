"""The workdir: what it says of a run, until that is finished."""

import shutil

import ml_collections
import pytest

from mlp_mixer.runs import folder
from mlp_mixer.runs.folder import DATA_FILE, WEIGHTS_FILE, is_finished, mark_finished


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


@pytest.mark.parametrize("name", ["classes.txt", "config.json", "data.json", "model.npz"])
def test_a_run_overwrites_no_files_of_others(tmp_path, name):
    (tmp_path / name).write_text('{"architecture": "mixer_b16_224"}')
    with pytest.raises(ValueError, match=f"is not the workdir of a run, and has a file {name}"):
        folder.check_free(tmp_path, ("a", "b"))


def test_a_run_begins_where_another_was_killed_at_its_beginning(tmp_path, tiny_config):
    folder.check_free(tmp_path / "nothing", ("a", "b"))
    (tmp_path / "classes.txt").write_text("a\nb\n")
    folder.check_free(tmp_path, ("a", "b"))
    folder.claim(tmp_path, tiny_config, ("a",))
    folder.check_free(tmp_path, ("a", "b"))  # that run may have had other classes


@pytest.mark.parametrize("address", ["https://host/x.npz", "hf://timm/x", "hf:timm/x", "sam/B"])
def test_what_is_on_the_web_lies_in_no_workdir(address):
    assert folder.workdir_of(address) is None
