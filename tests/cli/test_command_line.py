"""What all command lines make of their arguments."""

import sys

import pytest
from absl import flags
from ml_collections import config_flags

from mlp_mixer import __main__
from mlp_mixer.cli import arguments


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_tilde_at_the_start_of_a_path_is_the_home_folder(home):
    for argument, expanded in {
        "~": f"{home}",
        "~/a.png": f"{home}/a.png",
        "--workdir=~/runs/x": f"--workdir={home}/runs/x",
        "--config.init_from=~/x.npz": f"--config.init_from={home}/x.npz",
        "MINE=~/runs": f"MINE={home}/runs",
    }.items():
        assert arguments.at_home(argument) == expanded
    for argument in ("a~", "--out=a/~/b", "--config.lr=1", "folder:~/data", "./~", ""):
        assert arguments.at_home(argument) == argument  # a folder: is expanded where it is opened


def test_a_command_gets_paths_of_the_home_folder(home, monkeypatch):
    seen = []
    monkeypatch.setattr(arguments, "guard", lambda main, args: seen.append(args))
    monkeypatch.setattr(sys, "argv", ["mlp_mixer", "curves", "~/a", "~/b", "--out=~/c.png"])
    __main__.main()
    assert seen[0].workdirs == [f"{home}/a", f"{home}/b"] and seen[0].out == f"{home}/c.png"


@pytest.mark.parametrize("form", [["--config=~/config.json"], ["--config", "~/config.json"]])
def test_train_py_takes_the_config_of_a_run(home, form):
    config = arguments.load_config("configs/digits.py", [])
    (home / "config.json").write_text(config.to_json())
    values = flags.FlagValues()
    argv = ["train.py", *form, "--workdir=~/x", "--config.lr=0.5"]
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    arguments._parse(argv, values)
    assert values.workdir == f"{home}/x"
    assert values.config.lr == 0.5 and values.config.image_size == config.image_size
