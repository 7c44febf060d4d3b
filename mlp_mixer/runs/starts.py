"""How a run was started, each time: WORKDIR/starts.json.

Each start has the command, the versions of the packages that matter, the devices, and, if the
process came to an end by itself, when that was and how much memory the devices had needed. Runs of
version 0.1 have no such file.
"""

import contextlib
import datetime
import importlib.metadata
import json
import logging
import platform
import shlex
import sys
from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import jax

import mlp_mixer
from mlp_mixer.runtime import devices
from mlp_mixer.runtime.notebooks import in_notebook
from mlp_mixer.runtime.storage import AnyPath, as_path, write_text

log = logging.getLogger(__name__)

FILE = "starts.json"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


@contextlib.contextmanager
def recorded(
    workdir: AnyPath, step: int, check_lock: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Records a start, and at the end of the block its end; process 0 only.

    Args:
        workdir: of the run.
        step: the step of the checkpoint that the run goes on from; 0 for a new run, to which the
            starts of an earlier one do not belong.
        check_lock: called before the end is recorded; raises an OSError if the lock is lost.
    """
    if jax.process_index():
        yield
        return
    starts = [*(read(workdir) if step else []), _this_start(step)]
    _write(workdir, starts)
    try:
        yield
    finally:  # also when the run fails or is asked to end, which it says better than an error here
        starts[-1] |= {"ended": _now(), "peak_bytes": devices.peak_bytes()}
        try:
            check_lock()
            _write(workdir, starts)
        except OSError as error:
            log.warning("the end of this start is not recorded in %s (%s)", workdir / FILE, error)


def read(workdir: str | PathLike) -> list[dict[str, Any]]:
    """Returns the starts of a run, oldest first; none if they are not known."""
    path = as_path(workdir) / FILE
    try:
        starts = json.loads(path.read_text())
    except FileNotFoundError:
        return []
    except ValueError:
        starts = None
    if not isinstance(starts, list) or not all(isinstance(start, dict) for start in starts):
        log.warning("%s is damaged: earlier starts of the run are not known", path)
        return []
    return starts


def _write(workdir: AnyPath, starts: list[dict[str, Any]]) -> None:
    write_text(workdir / FILE, json.dumps(starts, indent=1) + "\n")


def _this_start(step: int) -> dict[str, Any]:
    return {
        "started": _now(),
        "after_step": step,
        "command": command(sys.argv),
        "version": mlp_mixer.__version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # a nightly build has another name
        return None


def command(argv: list[str]) -> str:
    """Returns the command line of a process, as one would type it."""
    if in_notebook():  # whose arguments are not the user's
        return "in a notebook"
    program = Path(argv[0] if argv else "")
    if program.name == "__main__.py":
        words = ["python", "-m", program.parent.name]
    elif program.suffix == ".py":
        words = ["python", argv[0]]
    elif program.name in ("", "-c", "-"):
        words = ["python"]
    else:
        words = [program.name]
    return shlex.join([*words, *argv[1:]])


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
