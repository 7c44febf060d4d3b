"""Runs in processes of their own, one or two for each."""

import subprocess
import sys

from .bucket import free_port
from .conftest import ROOT, with_devices
from .forks import Fork

TRAIN_PY = "import runpy; runpy.run_path('train.py', run_name='__main__')"
SMALL = [
    "--config.model.num_blocks=1", "--config.model.hidden_dim=16", "--config.total_epochs=0",
    "--config.model.tokens_mlp_dim=8", "--config.model.channels_mlp_dim=32",
    "--config.batch_size=32", "--config.log_every_steps=1", "--config.warmup_steps=1",
    "--config.eval_every_epochs=0", "--config.checkpoint_every_epochs=0",
    "--config.sheet_examples=0",
]  # fmt: skip


def start(workdir, *arguments) -> Fork:
    """Starts a run on one device."""
    flags = "--config=digits", f"--workdir={workdir}"
    return Fork(TRAIN_PY, *flags, *arguments, env=with_devices(1))


def start_train_py(workdir, *arguments) -> subprocess.Popen:
    """The same as a user does."""
    return subprocess.Popen(
        [sys.executable, "train.py", "--config=digits", f"--workdir={workdir}", *arguments],
        cwd=ROOT, env=with_devices(1), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def start_two(workdir, *arguments, steps: int = 4, checkpoint_every: int = 2) -> list[Fork]:
    """Starts a small run in two processes, with a device each."""
    flags = [
        *SMALL, f"--config.total_steps={steps}", f"--config.eval_every_steps={steps}",
        f"--config.checkpoint_every_steps={checkpoint_every}",
        f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2",
    ]  # fmt: skip
    return [start(workdir, *flags, f"--process_id={i}", *arguments) for i in (0, 1)]


def finish(*processes: Fork) -> str:
    """What processes say that must succeed."""
    texts = [process.communicate(timeout=300)[0] for process in processes]
    for process, text in zip(processes, texts, strict=True):
        assert process.returncode == 0, text
    return "".join(texts)
