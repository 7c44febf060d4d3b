"""A fork is to tests what a new process is."""

import os
import signal
import subprocess
import sys

import pytest

from .conftest import ROOT, with_devices
from .forks import Fork

PROGRAM = """
import atexit, os, sys
import jax
from mlp_mixer.cli import train
atexit.register(print, "the end")
print(jax.device_count(), jax.config.jax_platforms, sys.argv, os.getcwd(), __name__)
print(sorted(os.environ.items()))
print("error", file=sys.stderr)
sys.exit(3)
"""


@pytest.mark.slow
def test_a_fork_does_what_a_new_interpreter_does():
    env = with_devices(3)
    fork = Fork(PROGRAM, "a", "b", env=env, stderr_apart=True)
    out, err = fork.communicate()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "a", "b"],
        cwd=ROOT, env=env, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert (out, err, fork.returncode) == (done.stdout, done.stderr, done.returncode)
    assert out.startswith("3 cpu") and out.endswith("the end\n") and fork.returncode == 3


def test_a_signal_and_an_error_end_a_fork():
    sleeping = Fork("import time; time.sleep(600)", env=dict(os.environ))
    assert sleeping.poll() is None
    sleeping.terminate()
    assert sleeping.wait() == -signal.SIGTERM
    failed = Fork("1 / 0", env=dict(os.environ))
    assert "ZeroDivisionError" in failed.communicate()[0] and failed.returncode == 1
