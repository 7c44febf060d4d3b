"""Machines on which something is missing, and Ctrl-C: a line and a status, no traceback."""

import importlib.util
import os
import signal
import subprocess
import sys

import jax
import pytest

from mlp_mixer.cli import curves
from mlp_mixer.runtime import devices

from .conftest import ROOT


def test_without_fcntl_an_import_says_which_systems_there_are():
    program = "import sys; sys.modules['fcntl'] = None; import mlp_mixer"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ImportError: mlp_mixer runs on Linux and macOS; on Windows use WSL"
    )


@pytest.fixture
def curves_that(monkeypatch, command):
    """Calls a command that does what is given, and nothing else."""
    monkeypatch.setattr(devices, "leave_out_libtpu", lambda: None)

    def call(action):
        monkeypatch.setattr(curves, "main", lambda args: action())
        return command("curves", "x")

    return call


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("Unable to initialize backend 'tpu': none\nmore"), "backend 'tpu': none\n"),
        (AssertionError(), "there is no such device here; JAX_PLATFORMS=cpu computes on the CPU"),
    ],
)
def test_a_platform_that_is_not_here_is_one_line(curves_that, monkeypatch, error, words):
    def no_devices():
        raise error

    monkeypatch.setattr(jax, "devices", no_devices)
    told = curves_that(no_devices)
    assert told.status == 1 and words in told.err and told.err.count("\n") == 1


def test_a_device_out_of_memory_is_one_line_with_what_needs_less(curves_that):
    def allocate():
        jax.numpy.zeros(2**50).block_until_ready()

    told = curves_that(allocate)
    assert told.status == 1 and told.err.count("\n") == 1
    assert told.err.startswith("error: RESOURCE_EXHAUSTED: Out of memory") and "remat" in told.err


def test_another_error_is_a_bug_and_keeps_its_traceback(curves_that):
    def bug():
        raise AssertionError("a bug")

    with pytest.raises(AssertionError, match="a bug"):
        curves_that(bug)


@pytest.mark.slow
def test_commands_draw_without_a_screen_from_the_import_on():
    program = (
        "import sys; from mlp_mixer.cli.main import main; main(['curves', '--help']);"
        "import matplotlib as m; print(dict.__getitem__(m.rcParams, 'backend'), file=sys.stderr)"
    )
    environment = {name: x for name, x in os.environ.items() if name != "MPLBACKEND"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr.split()[-1] == "agg"


def test_ctrl_c_ends_a_command_with_its_documented_status(curves_that):
    def interrupted():
        raise KeyboardInterrupt

    told = curves_that(interrupted)
    assert told.status == 130 and "continues" in told.err


def test_ctrl_c_works_in_a_command_as_in_python(curves_that):
    found = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it
    try:
        curves_that(lambda: found.append(signal.getsignal(signal.SIGINT)))
    finally:
        signal.signal(signal.SIGINT, before)
    assert found == [signal.default_int_handler]


@pytest.mark.parametrize(
    ("libtpu", "tpu", "platforms", "chosen"),
    [
        (True, False, None, "cpu"),
        (False, False, None, None),
        (True, True, None, None),
        (True, False, "tpu", "tpu"),
    ],
)
def test_libtpu_without_a_tpu_is_left_out_unless_it_is_asked_for(
    monkeypatch, libtpu, tpu, platforms, chosen
):
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: libtpu or None)
    monkeypatch.setattr(devices, "has_tpu", lambda: tpu)
    monkeypatch.setattr(devices, "has_gpu", lambda: False)
    before = jax.config.jax_platforms
    jax.config.update("jax_platforms", platforms)
    try:
        devices.leave_out_libtpu()
        assert jax.config.jax_platforms == chosen
    finally:
        jax.config.update("jax_platforms", before)


@pytest.mark.parametrize("device", ["nvidia0", "dxg", "kfd"])
def test_a_gpu_is_known_by_its_device_file(monkeypatch, tmp_path, device):
    monkeypatch.setattr(devices, "Path", lambda *parts: tmp_path.joinpath(*parts[1:]))
    assert not devices.has_gpu()
    (tmp_path / device).touch()
    assert devices.has_gpu()
