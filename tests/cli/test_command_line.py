"""What the command line makes of its arguments, whatever the command."""

import pytest

import mlp_mixer
from mlp_mixer.cli import arguments, config, curves, output, sweep, train
from mlp_mixer.cli.main import COMMANDS

from ..conftest import load_config


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


def test_a_command_gets_paths_of_the_home_folder(home, run, monkeypatch):
    seen = []
    monkeypatch.setattr(curves, "main", seen.append)
    run("curves", "~/a", "~/b", "--out=~/c.png")
    assert seen[0].workdirs == [f"{home}/a", f"{home}/b"] and seen[0].out == f"{home}/c.png"


def test_a_config_is_given_by_file_by_name_or_by_a_run(home):
    by_file = config.load("configs/digits.py", ["--config.lr=0.5"])
    assert by_file.lr == 0.5 and by_file.image_size == load_config("digits").image_size
    assert config.load("digits", ["--config.lr=0.5"]).to_dict() == by_file.to_dict()
    (home / "config.json").write_text(by_file.to_json())
    assert config.load(str(home / "config.json")).lr == 0.5
    assert config.load("transfer:B/16,pets").data.source == "tfds:oxford_iiit_pet"


def test_a_config_of_ones_own_may_import_those_that_come_along(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from configs import digits\n\n\ndef get_config(lr='1'):\n"
        "    config = digits.get_config()\n    config.lr = float(lr)\n    return config\n"
    )
    assert config.load(f"{tmp_path}/mine.py:0.25").lr == 0.25
    assert config.load(f"{tmp_path}/mine.py").lr == 1.0


TRAIN = ("train", "--config=digits", "--workdir=x")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["trian"], "there is no command trian; did you mean train?"),
        (["train", "--config=digits", "--workdr=x"], "--workdr=x; did you mean --workdir?"),
        (["curves", "a", "--otu=x.png"], "unrecognized argument --otu=x.png; did you mean --out?"),
        (["predict", "--checkpoint=x", "x.png", "--config.lr=1"], "argument --config.lr=1"),
        (["train", "--config=digit", "--workdir=x"], "no config digit; did you mean digits?"),
        (["train", "--config=digits", "--workdir=x", "--config.lrr=1"], "lrr; did you mean lr?"),
        (["train", "--config=digits:9", "--workdir=x"], "digits takes no argument, and got '9'"),
        (["train", "--config=digits"], "--workdir"),
        ([*TRAIN, "--lr=0.01"], "argument --lr=0.01; did you mean --config.lr?\n"),
        ([*TRAIN, "lr=0.01"], "argument lr=0.01; did you mean --config.lr?\n"),
        ([*TRAIN, "--batch-size", "8"], "--batch-size; did you mean --config.batch_size?\n"),
        ([*TRAIN, "--epochs=3"], "--epochs=3; did you mean --config.total_epochs?\n"),
        ([*TRAIN, "--augment.flip=True"], "did you mean --config.augment.flip?\n"),
        (["curves", "a", "--weight_decay=1"], "argument --weight_decay=1\n"),  # takes no config
        ([*TRAIN, "--config.lr", "0.01"], "argument 0.01; write --config.lr=0.01\n"),
        ([*TRAIN, "--config.lr=1", "0.01"], "unrecognized argument 0.01\n"),
        ([], "COMMAND"),
        (["-x", "train"], "unrecognized argument -x"),
        (["--", "train"], "mlp-mixer --help lists what there is"),
    ],
)
def test_a_wrong_argument_is_one_message_and_status_2(command, given, words):
    told = command(*given)
    assert told.status == 2 and told.err.startswith("error: ") and words in told.err
    assert "Traceback" not in told.err and not told.out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("augment.flip=yes", "augment.flip is 'yes'; it may be True or False"),
        ("data.in_memory=", "data.in_memory is ''; it may be True or False"),
        ("batch_size=1.5", "batch_size is '1.5'; it may be a whole number from 1 on"),
        ("lr=high", "lr is 'high'; it may be a number from 0 on"),
    ],
)
def test_a_value_of_the_wrong_type_is_told_what_it_may_be(command, given, message):
    told = command(*TRAIN, "--config.seed=1", f"--config.{given}")
    assert (told.status, told.err) == (2, f"error: {message}\n")


def test_train_refuses_fields_of_a_sweep_and_names_the_command(command, monkeypatch):
    trained = []
    monkeypatch.setattr(train, "main", trained.append)
    monkeypatch.setattr(sweep, "main", trained.append)
    given = ("--config=transfer:digits,place", "--workdir=x", "--config.sweep.learning_rates=0.5")
    told = command("train", *given)
    assert told.status == 2 and not trained
    assert "--config.sweep.learning_rates=0.5" in told.err and "mlp-mixer sweep" in told.err
    assert command("train", *given[:2]).status == command("sweep", *given).status == 0
    assert trained[1].config.sweep.learning_rates == (0.5,)


@pytest.mark.parametrize(
    "start",
    [
        "curves a --out", "curves a --numbers", "report a --out",
        "evaluate --checkpoint=a --figure", "evaluate --checkpoint=a --confusion",
        "predict --checkpoint=a b.png --figure",
        "predict --checkpoint=a b.png --csv", "plan --config=digits --topology=v5e:1x1 --figure",
    ],
)  # fmt: skip
def test_a_folder_is_no_file_to_write_to_before_any_work(command, start):
    told = command(*start.split(), ".")
    expected = f"error: argument {start.split()[-1]}: . is a folder; give the name of a file"
    assert told.status == 2 and told.err.startswith(expected)


def test_every_command_has_help_and_the_version_is_told(command):
    for name in COMMANDS:
        told = command(name, "--help")
        assert told.status == 0 and f"mlp-mixer {name}" in told.out, name
    assert command("--version").out == f"{mlp_mixer.__version__}\n"
    assert all(name in command("--help").out for name in COMMANDS)


def test_columns_of_a_table_are_as_wide_as_their_widest_cell():
    rows = [("run", "step"), ("runs/long", "1"), ("a", "1000000")]
    assert output.table(rows).splitlines() == [
        "run        step",
        "------------------",
        "runs/long  1",
        "a          1000000",
    ]
