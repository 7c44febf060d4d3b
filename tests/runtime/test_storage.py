"""Files appear whole or not at all."""

import re
from pathlib import Path

import pytest

from mlp_mixer.runtime import storage


def test_an_empty_path_is_not_the_working_directory():
    with pytest.raises(ValueError, match="a path is empty; is a variable of the shell not set"):
        storage.as_path("")


def test_a_file_that_cannot_be_filled_leaves_what_was_there(tmp_path):
    path = tmp_path / "folder" / "a.txt"
    storage.write_text(path, "whole")

    def fill(file):
        file.write(b"half")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        storage.write_whole(path, fill)
    assert path.read_text() == "whole" and list(path.parent.iterdir()) == [path]


def test_a_link_stays_one_and_what_it_points_to_is_written(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    storage.write_text(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "text"


def test_a_folder_in_a_files_place_is_refused_at_once(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    for name in ("runs", "link", "."):
        with pytest.raises(
            IsADirectoryError, match=rf"^{re.escape(name)} is a folder; give the name of a file"
        ):
            storage.write_whole(Path(name), lambda file: pytest.fail("it was filled"))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["link", "runs"]


def test_a_folder_that_dots_stand_for_has_its_own_name(tmp_path, monkeypatch):
    (tmp_path / "run" / "1").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    for text, name in ((".", "run"), ("1/..", "run"), ("..", tmp_path.name), ("1/.", "1")):
        path = storage.named(storage.as_path(text))
        assert path.name == name and path.samefile(text)
    assert storage.named(tmp_path / "link").name == "link"  # as it was called
    assert str(storage.named(storage.as_path("gs://bucket/run"))) == "gs://bucket/run"
