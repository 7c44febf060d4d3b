"""Runs in processes of their own, one or two for each."""

import subprocess
import sys

from .bucket import free_port
from .conftest import ROOT, with_devices
from .forks import Fork

TRAIN_PY = "import runpy; runpy.run_path('train.py', run_name='__main__')"


def start(workdir, *arguments, config: str = "digits") -> Fork:
    """Starts a run on one device."""
    flags = f"--config={config}", f"--workdir={workdir}"
    return Fork(TRAIN_PY, *flags, *arguments, env=with_devices(1))


def start_train_py(workdir, *arguments) -> subprocess.Popen:
    """The same as a user does."""
    return subprocess.Popen(
        [sys.executable, "train.py", "--config=digits", f"--workdir={workdir}", *arguments],
        cwd=ROOT, env=with_devices(1), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def start_two(workdir, *arguments) -> list[Fork]:
    """Starts a run in two processes, with a device each."""
    address = f"127.0.0.1:{free_port()}"
    return [
        start(workdir, *arguments, f"--coordinator={address}", "--num_processes=2",
              f"--process_id={i}", config="tests/everything_random.py")
        for i in (0, 1)
    ]  # fmt: skip


def finish(*processes: Fork) -> str:
    """What processes say that must succeed."""
    texts = [process.communicate(timeout=300)[0] for process in processes]
    for process, text in zip(processes, texts, strict=True):
        assert process.returncode == 0, text
    return "".join(texts)
