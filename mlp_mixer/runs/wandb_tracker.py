"""Weights & Biases: https://docs.wandb.ai. Its own environment variables apply, such as WANDB_MODE.

WORKDIR/wandb_run   the id of the run there, with which each start of the workdir continues it
WORKDIR/wandb/      what wandb writes; of a workdir in a bucket, ./wandb
"""

import os
import secrets
from typing import Any

import wandb

from mlp_mixer.runtime.storage import AnyPath, is_address, named, write_text

ID_FILE = "wandb_run"


def start(workdir: AnyPath, config: dict[str, Any]) -> "WandbTracker":
    """Starts a run at wandb, or continues that of the workdir."""
    file = workdir / ID_FILE
    if not file.exists():
        write_text(file, f"{secrets.token_hex(8)}\n")
    return WandbTracker(
        wandb.init(
            id=file.read_text().strip(),
            resume="allow",
            config=config,
            allow_val_change=True,  # of the fields with which a run may continue
            project=os.environ.get("WANDB_PROJECT", "mlp_mixer"),
            name=os.environ.get("WANDB_NAME", named(workdir).name),
            dir=None if is_address(workdir) else str(workdir),
            settings=wandb.Settings(console="off"),  # its copy of the log would hold the bar, too
        )
    )


class WandbTracker:
    """A run at wandb, whose steps are those of training."""

    def __init__(self, run: wandb.Run):
        self._run, self._there = run, run.step

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Records scalars of a step, unless they are there: a run that was killed goes back."""
        if step >= self._there:
            self._run.log(values, step=step)

    def close(self, done: bool) -> None:
        """Waits until wandb has everything, and ends the run there."""
        self._run.finish(exit_code=0 if done else 1)
