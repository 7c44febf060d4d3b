"""Files appear whole or not at all."""

import pytest

from mlp_mixer.runtime import storage


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
